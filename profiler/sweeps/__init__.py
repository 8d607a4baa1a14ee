"""Many cases: planned, run, resumed, published."""
