"""The measurement, with real tensors in a process of its own."""
