"""Plain data: no I/O, no torch."""
