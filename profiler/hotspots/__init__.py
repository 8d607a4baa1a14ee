"""Where the bytes of a stage are, why they are there, and what would take them away."""
