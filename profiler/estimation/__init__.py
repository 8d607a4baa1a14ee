"""The estimate, without a GPU."""
