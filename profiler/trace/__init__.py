"""Allocations of a call on tensors without data."""
