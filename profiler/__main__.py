"""`python -m profiler` is the `latentmeter` command."""

from profiler.commands.main import main

main()
