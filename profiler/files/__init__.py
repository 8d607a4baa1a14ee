"""Reading, checking and writing: all I/O on plain data."""
