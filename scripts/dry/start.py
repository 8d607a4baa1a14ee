"""Starts a command in dry CUDA: the environment, the stubs, one card, a folder for what runs on it (docs/dry-cuda.md)."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import build
import environment

CARDS = environment.REPOSITORY / "configs" / "gpus"


def main() -> None:
    """Parse, make what is missing, become the command."""
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a half-made folder is removed
    cache = environment.cache_folder()
    try:
        build.check()
        folder = environment.make(cache, arguments.torch)
        stubs = build.make(folder)
        card = read_card(folder, arguments.gpu, arguments.memory_mib)
    except environment.SetupError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing half-made is kept")
    become(arguments.command, variables(folder, stubs, card, state_folder(cache)))


def parse() -> argparse.Namespace:
    """The options; whatever follows them is the command, with its own."""
    parser = argparse.ArgumentParser(
        prog="scripts/dry_cuda",
        usage="scripts/dry_cuda [--gpu CARD] [--torch RELEASE] [--memory-mib N] COMMAND...",
        description="Run COMMAND with the CUDA build of torch as if a card were there: allocator, dispatcher and "
        f"cuDNN's plans are real, kernels do nothing. The first start makes an environment: {environment.COST}.",
    )
    cards = sorted(path.stem for path in CARDS.glob("*.yaml"))
    parser.add_argument(
        "--gpu", metavar="CARD", choices=cards, default="h200", help=f"{', '.join(cards)}; default h200"
    )
    parser.add_argument("--torch", metavar="RELEASE", help="torch's release, as 2.11.0; default: constraints.txt's")
    parser.add_argument("--memory-mib", metavar="N", type=int, help="a card of this kind with less memory")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("which command? For example: scripts/dry_cuda latentmeter doctor")
    return arguments


def read_card(folder: Path, gpu: str, memory_mib: int | None) -> str:
    """The card's property record, as JSON text. YAML is read in the environment, which has a library for it."""
    code = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))"
    text = (CARDS / f"{gpu}.yaml").read_text()
    python = folder / "venv" / "bin" / "python"
    done = subprocess.run([python, "-c", code], input=text, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout).get("properties")
    if record is None:
        raise environment.SetupError(f"{CARDS / gpu}.yaml has no `properties`: dry CUDA needs the card's record")
    if memory_mib is not None:
        record["totalGlobalMem"] = memory_mib << 20
    return json.dumps(record)


def state_folder(cache: Path) -> Path:
    """A folder for the books of the processes on this card, named by this process; those of ended ones are removed."""
    running = cache / "running"
    running.mkdir(parents=True, exist_ok=True)
    for old in running.iterdir():
        if old.name == str(os.getpid()) or not Path("/proc", old.name).exists():
            shutil.rmtree(old, ignore_errors=True)
    own = running / str(os.getpid())
    own.mkdir(exist_ok=True)
    return own


def variables(folder: Path, stubs: Path, card: str, state: Path) -> dict[str, str]:
    """The command's environment."""
    python = folder / "venv" / "bin"
    changed = {
        "LATENTMETER_DRY": "1",
        "LATENTMETER_DRY_CARD": card,
        "LATENTMETER_DRY_STATE": str(state),
        "LATENTMETER_DRY_STUBS": str(stubs),
        "LATENTMETER_PYTHON": str(python / "python"),  # what scripts/gpu_validation runs
        "LD_LIBRARY_PATH": before(str(stubs / "lib"), "LD_LIBRARY_PATH"),
        "PATH": before(f"{folder / 'bin'}{os.pathsep}{python}", "PATH"),
        "PYTHONPATH": before(str(environment.REPOSITORY), "PYTHONPATH"),
    }
    # The card is the only device; a python of another environment must not look into this one's.
    dropped = ("CUDA_VISIBLE_DEVICES", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in dropped} | changed


def before(first: str, name: str) -> str:
    """`first`, then what the variable `name` holds already."""
    return os.pathsep.join(filter(None, [first, os.environ.get(name)]))


def become(command: list[str], values: dict[str, str]) -> NoReturn:
    """Replace this process, so that signals and the exit code are the command's own."""
    try:
        os.execvpe(command[0], command, values)
    except OSError as error:
        print(f"scripts/dry_cuda: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main()
