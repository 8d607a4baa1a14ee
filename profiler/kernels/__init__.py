"""What kernels borrow, without torch."""
