"""Prints this machine's stack as JSON: `python -m profiler.machine.probe auto|cuda|cpu`.

In a process of its own, so that whoever asks never holds a CUDA context. Exit code 3 with the reason on standard error
where CUDA was asked for and there is none.
"""

import json
import sys
from dataclasses import asdict

import torch

from profiler.data.stack import DeviceName
from profiler.machine.live import live_stack


def main() -> None:
    """Answer for the device asked; `auto` is CUDA where there is one."""
    asked = sys.argv[1]
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, but sees no device"
        none = f"torch {torch.__version__} is a build without CUDA"
        sys.stderr.write((built if torch.version.cuda else none) + "\n")
        sys.exit(3)
    device: DeviceName = "cuda" if asked != "cpu" and available else "cpu"
    sys.stdout.write(json.dumps(asdict(live_stack(device))) + "\n")


if __name__ == "__main__":
    main()
