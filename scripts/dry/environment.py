"""Makes, once, the environment of dry CUDA: the CUDA build of torch in a venv; beside it cuDNN, cuBLAS and headers.

torch is installed without its NVIDIA packages: the stubs that build.py makes stand in for them. The few that the cuDNN
helper really loads go to a folder of their own, `nvidia`, where torch's library paths do not reach. Versions follow
constraints.txt and, for NVIDIA's packages, torch's own metadata.

The environment lies in the user's cache, under a name that holds a hash of all it is made from. It is made in a folder
beside it and renamed when complete, so what has the name is whole. Needs the standard library only.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COST = "about 1.6 GB to download and 3 GB of disk"
DISK_BYTES = 6 * 10**9  # while it is made: packages, and pip's copies of them
NOT_TORCH = ("cuda-", "nvidia-", "triton")  # what torch requires and a dry run does not


class SetupError(Exception):
    """A message for the user: what is missing, and what to do."""


def make(cache: Path, torch: str | None = None) -> Path:
    """The environment's folder, made if it is not there: `venv`, `nvidia`, `bin/latentmeter`.

    `torch` is the release, such as `2.11.0`; None is that of constraints.txt.
    """
    constraints = constraints_for(torch)
    folder = cache / f"dry-cuda-{made_from(constraints)}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with lock(cache / "dry-cuda.lock"):
        for partial in cache.glob("dry-cuda-*.partial-*"):  # of a start that was killed: this one holds the lock
            shutil.rmtree(partial, ignore_errors=True)
        if folder.is_dir():
            return folder
        check(cache)
        say(f"making the dry CUDA environment, once: {COST}, some minutes.\n  {folder}")
        with renamed_when_complete(folder) as partial:
            install(partial, folder, constraints)
    return folder


def constraints_for(torch: str | None) -> str:
    """The text of constraints.txt, with the release of torch that is wanted. Raises SetupError if it cannot be one."""
    text = (REPOSITORY / "constraints.txt").read_text()
    if torch is None:
        return text
    if not re.fullmatch(r"\d+\.\d+\.\d+", torch):
        raise SetupError(f"{torch} is no release of torch: write it as 2.11.0")
    return re.sub(r"^torch==\S+", f"torch=={torch}", text, flags=re.MULTILINE)


def made_from(constraints: str) -> str:
    """A short hash of all that the environment is made from."""
    parts = [
        constraints,
        json.dumps(requirements()),
        Path(__file__).read_text(),
        sys.version,
        sys.base_prefix,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def requirements() -> list[str]:
    """What latentmeter needs besides torch."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return [need for need in project["dependencies"] if not need.startswith("torch")]


def check(cache: Path) -> None:
    """Raises SetupError, before anything is downloaded, where it could not be finished."""
    missing = [tool for tool in ("gcc", "nm", "readelf") if shutil.which(tool) is None]
    if missing:
        raise SetupError(f"dry CUDA compiles its stubs and needs {', '.join(missing)}: install gcc and binutils")
    free = shutil.disk_usage(cache).free
    if free < DISK_BYTES:
        raise SetupError(
            f"{cache} has {free / 1e9:.1f} GB free, and dry CUDA needs {DISK_BYTES / 1e9:.0f} GB while it is made: "
            "free some, or set XDG_CACHE_HOME to a folder on a larger disk"
        )


def install(partial: Path, final: Path, constraints: str) -> None:
    """Fill `partial`, which will be renamed to `final`; `constraints` is the text of a constraints file for pip."""
    venv, nvidia = partial / "venv", partial / "nvidia"
    python = venv / "bin" / "python"
    step("environment", [sys.executable, "-m", "venv", venv])
    # `===` compares text: it takes the index's CUDA build, never a local CPU build, whose version is 2.13.0+cpu.
    release = re.search(r"^torch==(\S+)", constraints, re.MULTILINE)[1]
    step(f"torch {release}, CUDA build", pip(python, "--no-deps", f"torch==={release}"))
    site = next(venv.glob("lib/python*/site-packages"))
    if not (site / "torch" / "lib" / "libtorch_cuda.so").exists():
        raise SetupError(f"pip found no CUDA build of torch {release}: the package index offers a CPU build only")
    needs = forget_cuda(site)
    kept = partial / "constraints.txt"
    kept.write_text(constraints)
    step("latentmeter's requirements", pip(python, "--constraint", kept, *requirements(), *needs["other"]))
    step("cuDNN, cuBLAS, headers", pip(python, "--target", nvidia, *nvidia_packages(needs["cuda"])))
    # The scripts of a venv name its first path, and it moves: `python -m` starts the same programs.
    for script in (venv / "bin").iterdir():
        if not script.name.startswith("python"):
            script.unlink()
    command = partial / "bin" / "latentmeter"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{final}/venv/bin/python" -m profiler "$@"\n')
    command.chmod(0o755)


def forget_cuda(site: Path) -> dict[str, list[str]]:
    """Take torch's NVIDIA requirements out of its metadata, so that pip leaves them alone; return them and the others."""
    metadata = next(site.glob("torch-*.dist-info")) / "METADATA"
    needs: dict[str, list[str]] = {"cuda": [], "other": []}
    kept = []
    for line in metadata.read_text().splitlines(keepends=True):
        name = line.removeprefix("Requires-Dist: ").strip()
        if name != line.strip() and name.startswith(NOT_TORCH):
            needs["cuda"].append(name)
            continue
        if name != line.strip() and "extra ==" not in name:
            needs["other"].append(name)
        kept.append(line)
    metadata.write_text("".join(kept))
    return needs


def nvidia_packages(needs: list[str]) -> list[str]:
    """The packages that the cuDNN helper loads and the stubs are compiled with, in the versions that torch names.

    For CUDA 13 the toolkit is one package with extras; for CUDA 12 each library is a package of its own.
    """
    text = "\n".join(needs)
    cudnn = re.search(r"^nvidia-cudnn-\S+?==[\w.]+", text, re.MULTILINE)[0]
    toolkit = re.search(r"^cuda-toolkit\[.*?\]==([\w.]+)", text, re.MULTILINE)
    if toolkit is None:
        libraries = re.findall(r"^nvidia-(?:cublas|cuda-runtime|cuda-nvrtc)-cu12==[\w.]+", text, re.MULTILINE)
        release = re.search(r"^nvidia-cuda-runtime-cu12==(\d+\.\d+)", text, re.MULTILINE)[1]
        return [cudnn, *libraries, f"nvidia-cuda-nvcc-cu12=={release}.*"]
    release = ".".join(toolkit[1].split(".")[:2])
    return [cudnn, f"cuda-toolkit[cublas,cudart,nvrtc]=={toolkit[1]}", f"nvidia-cuda-crt=={release}.*"]


def pip(python: Path, *arguments: object) -> list[object]:
    """A quiet `pip install`, with the index that the user's pip is set to."""
    return [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments]


def step(what: str, command: list[object]) -> None:
    """Run one step, its output on stderr: stdout belongs to the user's command. Raises SetupError if it fails."""
    say(f"  {what}")
    if subprocess.run([str(part) for part in command], stdout=sys.stderr).returncode != 0:
        raise SetupError(f"dry CUDA: {what}: failed, see above; nothing of it is kept")


@contextmanager
def renamed_when_complete(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its name at the end, or goes if the block fails."""
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.partial-"))
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """One maker at a time; the others wait, and find the work done."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another start is making the dry CUDA environment: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache_folder() -> Path:
    """Where the user's caches lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentmeter"


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
