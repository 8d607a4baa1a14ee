"""What each op allocates besides its result."""
