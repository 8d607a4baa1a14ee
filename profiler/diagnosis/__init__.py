"""Hot spots: why bytes are alive at the peak, and what would take them away."""
