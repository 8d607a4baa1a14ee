"""`latentmeter`, which is also `python -m profiler`."""

import signal

# While modules are read, Ctrl-C ends this without a traceback, as SIGTERM does.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from profiler.commands.main import main

if __name__ == "__main__":
    main()
