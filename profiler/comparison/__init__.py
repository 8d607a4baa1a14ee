"""What two sides differ by: estimate and measurement, two runs, two streams of events."""
