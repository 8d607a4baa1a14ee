"""What fits: the plainest settings by which a model runs on a card, the largest size, and the code to paste."""
