"""Which cuDNN is installed, and the front-end by which it can be asked: found by names of files, nothing is loaded."""

import importlib.util
import os
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from profiler.files.paths import installed

FRONT_END = "nvidia-cudnn-frontend"
WHEELS = ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12")  # cuDNN for CUDA 13 and for CUDA 12
SEARCHED = "LD_LIBRARY_PATH"
SYSTEM = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/cuda/lib64")
FIRST_WITHOUT_DEVICE = 90800  # cuDNN's release notes: ahead-of-time compilation, for a device that is not there


class Library(NamedTuple):
    """A cuDNN that is installed: its version, such as 9.20.0.48, its folder, and whether it came as a wheel."""

    version: str
    folder: Path
    wheel: bool


@cache
def library() -> Library | None:
    """The cuDNN that torch would load: a wheel's, as a CUDA build of torch or the extra `planner` brings, else the system's.

    Looks at names of files alone: loading it here would put it in the way of torch's own.
    """
    for name in WHEELS:
        with suppress(PackageNotFoundError):
            found = distribution(name)
            return Library(found.version, Path(str(found.locate_file("nvidia/cudnn/lib"))), wheel=True)
    for folder in map(Path, [*os.environ.get(SEARCHED, "").split(os.pathsep), f"{sys.prefix}/lib", *SYSTEM]):
        file = (folder / "libcudnn.so.9").resolve()
        if (version := file.name.removeprefix("libcudnn.so.")).count(".") == 2 and file.is_file():
            return Library(version, folder, wheel=False)
    return None


@cache
def cublas_lt() -> Path | None:
    """The file of the cuBLASLt that belongs to `library()`, or None where there is none."""
    if (found := library()) is None:
        return None
    nvidia = found.folder.parent.parent  # of wheels: each of NVIDIA's has a folder in it, and CUDA 13's share one
    folders = (
        (nvidia / "cu13" / "lib", nvidia / "cublas" / "lib") if found.wheel else (found.folder, *map(Path, SYSTEM))
    )
    return next((file for folder in folders for file in sorted(folder.glob("libcublasLt.so.1?"))), None)


@cache
def front_end_version() -> str | None:
    """The versions of cuDNN's front-end and library, as text; None where one of them is missing."""
    found = library()
    if found is None or importlib.util.find_spec("cudnn") is None:
        return None
    return f"{installed(FRONT_END) or 'unknown'}-{found.version}"


@cache
def installed_cudnn() -> int | None:
    """The version of the cuDNN that is installed, as torch's integer; None where there is none."""
    found = library()
    numbers = [int(part) for part in found.version.split(".")[:3]] if found else []
    return numbers[0] * 10000 + numbers[1] * 100 + numbers[2] if len(numbers) == 3 else None


def missing() -> str | None:
    """Why nobody can be asked here, and what to do; None where a process can be started."""
    if (found := library()) is None:
        return "no cuDNN is installed to be asked: `pip install nvidia-cublas 'nvidia-cudnn-cu13==9.20.*'` brings one"
    if importlib.util.find_spec("cudnn") is None:
        return f"cuDNN {found.version} is installed, its front-end is not: pip install {FRONT_END}"
    if (installed_cudnn() or 0) < FIRST_WITHOUT_DEVICE:
        return f"cuDNN {found.version} is installed and cannot plan without a GPU, as 9.8 and later do"
    if cublas_lt() is None:
        return f"cuDNN {found.version} is installed, cuBLAS, which it asks, is not: pip install nvidia-cublas"
    return None
