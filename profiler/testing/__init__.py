"""Tests of memory, without a GPU: the pytest plugin."""
