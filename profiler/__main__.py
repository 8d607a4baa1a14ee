"""`python -m profiler` is the `latentmeter` command."""

from profiler.cli import main

main()
