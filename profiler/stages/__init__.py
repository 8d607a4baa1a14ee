"""What is run: a workload made ready, and its phases."""
