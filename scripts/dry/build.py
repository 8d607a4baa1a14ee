"""Compiles the stubs of dry CUDA: each library that torch's CUDA build is linked to, with every function it imports.

What a library must have is read from torch's own libraries (`readelf`, `nm`). What the C files beside this one define is
taken from them; the rest is generated: a few functions succeed in silence, because all they would do happens on the card;
any other says on stderr that it is not modelled and answers its library's error, so that no number comes from it. The
standard library, gcc and binutils do it.
"""

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from environment import SetupError, lock, renamed_when_complete, say

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STAND_INS = (ROOT / "profiler" / "kernels" / "elf.py", ROOT / "profiler" / "kernels" / "no_driver.py")
COMMON = (
    "books.c",
    "card.c",
    "host.c",
    "running.c",
)  # one library for all: cudart, the driver and NVML read the same books
# By name without the version, which is another for each CUDA: libcudart.so.12, libcudart.so.13.
WRITTEN = {
    "libcudart": "cudart.c",
    "libcuda": "driver.c",
    "libcudnn": "cudnn_client.c",
    "libcublas": "libraries.c",
    "libcublasLt": "libraries.c",
    "libcusolver": "libraries.c",
    "libcusparse": "libraries.c",
    "libnvrtc": "libraries.c",
    "libcupti": "libraries.c",
    "libnccl": "libraries.c",
}
# Functions that succeed in silence: what they compute or set is on the card, and they hand nothing back to the host.
SILENT = re.compile(
    r"cublas(?!.*(Malloc|Query))|cudnnBatchNormalization|cupti|nvrtc|cusolverDn[SD]getr[fs]$|cusparseLtInit|cusparseSetStream$"
)
# "Not supported" in each library's own numbers; 1 is an error in all others.
NOT_SUPPORTED = {
    "libcudart": 801,
    "libcuda": 801,
    "libcudnn": 3000,
    "libcusolver": 9,
    "libcusparse": 10,
    "libcusparseLt": 10,
    "libcufft": 16,
}
# Libraries of functions that torch imports without a version that would name them.
UNVERSIONED = {
    r"cuFile": "libcufile.so.0",
    r"cusparseLt": "libcusparseLt.so.0",
    r"nccl": "libnccl.so.2",
    r"nvshmem": "libnvshmem_host.so.3",
    r"cu[A-Z]": "libcuda.so.1",
}
NVIDIA = re.compile(r"lib(cu|nv|nccl)\w*\.so")


@dataclass
class Library:
    """What torch imports from one library: functions, and the version that it names them with, if any."""

    functions: set[str] = field(default_factory=set)
    version: str | None = None


def check() -> None:
    """Raises SetupError, before anything is downloaded, where torch's headers could not be compiled."""
    if shutil.which("g++") is None:
        raise SetupError("dry CUDA compiles its stubs and needs g++: install it")


def make(environment: Path) -> Path:
    """The folder of the stubs, in the environment's: `lib`, `cudnn_server`, `helper`. Compiled where it is not there."""
    sources = sorted([*HERE.glob("*.[ch]*"), Path(__file__), *STAND_INS])
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = environment / f"stubs-{digest}"
    if folder.is_dir():
        return folder
    with lock(environment / "stubs.lock"):
        if not folder.is_dir():
            say("compiling the stubs of dry CUDA")
            with renamed_when_complete(folder) as partial:
                compile_all(environment, partial)
    return folder


def compile_all(environment: Path, folder: Path) -> None:
    """Fill `folder`."""
    nvidia = environment / "nvidia" / "nvidia"
    includes = [f"-I{folder}" for folder in sorted(nvidia.glob("*/include"))]
    lib = folder / "lib"
    lib.mkdir()
    compile_c(lib / "libdry_cuda.so", COMMON, ["-shared", "-lpthread"])
    compile_c(lib / "libnvidia-ml.so.1", ["nvml.c"], ["-shared", f"-L{lib}", "-ldry_cuda"])
    torch = next(environment.glob("venv/lib/python*/site-packages/torch/lib"))
    includes.append(f"-DTORCH_ARCHITECTURES={architectures(torch)}")
    for name, library in imports(torch).items():
        compile_library(lib, name, library, includes)
    compile_values(lib, torch)
    make_helper(folder, environment, includes)


def architectures(torch: Path) -> str:
    """What torch's kernels are compiled for, as "75,80,86": what `torch.cuda.get_arch_list` says, read from its library."""
    found = re.search(rb"(?:sm_\d+a? )+sm_\d+", (torch / "libtorch_python.so").read_bytes())
    if found is None:
        raise SetupError("dry CUDA: torch does not say which architectures it is compiled for")
    return ",".join(re.findall(r"sm_(\d+)\b", found[0].decode()))


def imports(torch: Path) -> dict[str, Library]:
    """What torch's libraries import from NVIDIA's, by library."""
    libraries: dict[str, Library] = {}
    files = sorted(torch.glob("*.so"))
    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", *files)):
        if NVIDIA.match(name):
            libraries.setdefault(name, Library())
    versions = {name: name for name in libraries} | {"NVSHMEM": "libnvshmem_host.so.3"}
    for symbol in re.findall(r" U (\S+)", output("nm", "-D", "--undefined-only", *files)):
        function, _, version = symbol.partition("@")
        if version in versions:
            libraries[versions[version]].version = version
            libraries[versions[version]].functions.add(function)
        elif not version:
            owner = next((library for prefix, library in UNVERSIONED.items() if re.match(prefix, function)), None)
            if owner is not None:
                libraries[owner].functions.add(function)
    return libraries


def compile_library(lib: Path, name: str, library: Library, includes: list[str]) -> None:
    """One stub: what is written, and the generated rest."""
    work = lib.parent / "work"
    work.mkdir(exist_ok=True)
    parts: list[str | Path] = []
    written: set[str] = set()
    stem = name.partition(".so")[0]
    if stem in WRITTEN:
        part = work / f"{name}.o"
        compile_c(part, [WRITTEN[stem]], ["-c", *includes])
        written = set(re.findall(r" T (\w+)", output("nm", "--defined-only", part)))
        parts.append(part)
    generated = work / f"{name}.c"
    generated.write_text(generate(sorted(library.functions - written), NOT_SUPPORTED.get(stem, 1)))
    flags = ["-shared", f"-Wl,-soname,{name}", f"-L{lib}", "-Wl,--no-as-needed", "-ldry_cuda", "-lpthread", "-ldl"]
    if library.version is not None:
        script = work / f"{name}.map"
        script.write_text(f"{library.version} {{ global: *; }};\n")
        flags.append(f"-Wl,--version-script={script}")
    compile_c(lib / name, [generated, *parts], flags)


def generate(functions: list[str], error: int) -> str:
    """C text of `functions`: silent success, or a word on stderr the first time and `error`."""
    text = """#include <stdio.h>
static long absent(const char *name, int *said, long error) {
    if (!*said) fprintf(stderr, "dry CUDA: %s is not modelled: it answers an error\\n", name);
    *said = 1;
    return error;
}
"""
    for name in functions:
        if SILENT.match(name):
            text += f"long {name}(void) {{ return 0; }}\n"
        else:
            text += f'long {name}(void) {{ static int said; return absent("{name}", &said, {error}); }}\n'
    return text


def make_helper(folder: Path, environment: Path, includes: list[str]) -> None:
    """The program that holds the real cuDNN, and `helper`, the folder of all libraries that it may find.

    What cuDNN finds beside a GPU stands in here as for the estimate's planner: a driver and a cuBLASLt.
    """
    helper, nvidia = folder / "helper", environment / "nvidia" / "nvidia"
    helper.mkdir()
    for library in nvidia.glob("*/lib/*.so*"):
        if library.name.startswith(("libcudnn", "libcublas.so", "libnvrtc")):
            (helper / library.name).symlink_to(library)
    functions = sorted(set(re.findall(r"\bcu[A-Z]\w*", next(nvidia.glob("*/include/cuda.h")).read_text())))
    products = next(nvidia.glob("*/lib/libcublasLt.so*"))
    program = f"""
import pathlib
from profiler.kernels.no_driver import DRIVER, MACHINES, cublas, driver
helper, products, machine = pathlib.Path({str(helper)!r}), pathlib.Path({str(products)!r}), MACHINES["x86_64"]
(helper / products.name).write_bytes(cublas(machine, products))
(helper / DRIVER).write_bytes(driver(machine, {functions}))
"""
    subprocess.run([environment / "venv" / "bin" / "python", "-c", program], check=True, cwd=ROOT)
    flags = [*includes, f"-L{helper}", "-l:libcudnn.so.9"]
    compile_c(folder / "cudnn_server", ["cudnn_server.c", "card.c"], flags)


def compile_values(lib: Path, torch: Path) -> None:
    """The observer of torch's ops, which follows values: C++, as torch's headers are."""
    include = torch.parent / "include"
    flags = ["-shared", f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", f"-L{lib}", f"-L{torch}"]
    libraries = ["-ldry_cuda", "-ltorch_cpu", "-lc10"]
    compile_c(lib / "libdry_values.so", ["values.cpp"], [*flags, *libraries], ["g++", "-std=c++20", "-DNDEBUG"])


def compile_c(
    target: Path,
    sources: "tuple[str, ...] | list[str | Path]",
    flags: list[str],
    compiler: "tuple[str, ...] | list[str]" = ("gcc", "-std=gnu17"),
) -> None:
    """gcc. Raises SetupError with its words if it fails."""
    files = [HERE / source for source in sources]  # an absolute one stays what it is
    command = [*compiler, "-O1", "-w", "-fPIC", "-o", target, *files, *flags]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SetupError(f"dry CUDA: gcc could not make {target.name}:\n{done.stderr}")


def output(*command: object) -> str:
    """What a command prints."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout
