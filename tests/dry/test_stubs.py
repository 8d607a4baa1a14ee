"""The stubs' own logic, with gcc and no CUDA package: the books of memory, the card, NVML, and what makes them."""

import ctypes
import json
import mmap
import os
import re
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.machine import nvml
from profiler.machine.cards import gpus

ROOT = Path(__file__).parents[2]
DRY = ROOT / "scripts" / "dry"
sys.path.insert(0, str(DRY))

import build  # noqa: E402
import environment  # noqa: E402

MIB, TIB = 1 << 20, 1 << 40
PAGE, CONTEXT, RESERVED = 2 * MIB, 512 * MIB, 512 * MIB  # as in books.h and nvml.c
OK, INVALID, FULL = 0, 1, 2
COMMON = ("books.c", "card.c", "host.c", "running.c")
CARD = yaml.safe_load((ROOT / "configs" / "gpus" / "rtx-4090.yaml").read_text())["properties"]
TOTAL = CARD["totalGlobalMem"]


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of libdry_cuda.so and libnvidia-ml.so.1, compiled without a warning."""
    compiler = shutil.which("gcc") or pytest.skip("no gcc: the stubs cannot be compiled")
    folder = tmp_path_factory.mktemp("stubs")
    strict = [compiler, "-std=gnu17", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*strict, "-o", folder / "libdry_cuda.so", *(DRY / name for name in COMMON)], check=True)
    subprocess.run(
        [*strict, "-o", folder / "libnvidia-ml.so.1", DRY / "nvml.c", f"-L{folder}", "-ldry_cuda"], check=True
    )
    return folder


class Books:
    """books.h and card.h, through ctypes: one process's books, or with a copy of the library a second one's."""

    def __init__(self, library: Path) -> None:
        self.c = ctypes.CDLL(str(library))
        self.c.books_total.restype = self.c.books_free_bytes.restype = ctypes.c_uint64
        self.c.card_number.restype = ctypes.c_uint64

    def free_bytes(self) -> int:
        return self.c.books_free_bytes()

    def allocate(self, size: int) -> tuple[int, int]:
        address = ctypes.c_void_p()
        result = self.c.books_allocate(ctypes.byref(address), ctypes.c_uint64(size))
        return result, address.value or 0

    def free(self, address: int) -> int:
        return self.c.books_free(ctypes.c_void_p(address))

    def reserve(self, size: int) -> int:
        address = ctypes.c_void_p()
        assert self.c.books_reserve(ctypes.byref(address), ctypes.c_uint64(size)) == OK
        return address.value or 0

    def create(self, size: int) -> tuple[int, int]:
        pages = ctypes.c_uint64()
        return self.c.books_create(ctypes.byref(pages), ctypes.c_uint64(size)), pages.value

    def map(self, address: int, size: int, pages: int) -> int:
        return self.c.books_map(ctypes.c_void_p(address), ctypes.c_uint64(size), ctypes.c_uint64(pages))

    def unmap(self, address: int, size: int) -> int:
        return self.c.books_unmap(ctypes.c_void_p(address), ctypes.c_uint64(size))

    def release(self, pages: int) -> int:
        return self.c.books_release(ctypes.c_uint64(pages))


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment that scripts/dry_cuda sets, with a 4090's record. Gives the folder of the processes' books."""
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("LATENTMETER_DRY_CARD", json.dumps(CARD))
    monkeypatch.setenv("LATENTMETER_DRY_STATE", str(state))
    return state


@pytest.fixture
def few_addresses() -> Iterator[None]:
    """At most 4 TiB of addresses for a card: no test gives them back, and one process with them all has 128 TiB."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 8 * TIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def books(libraries: Path, card: Path, tmp_path: Path, few_addresses: None) -> Books:
    """Books of this test alone: a library loaded under another path has variables of its own."""
    return Books(Path(shutil.copy(libraries / "libdry_cuda.so", tmp_path / "books.so")))


# ---- books


def test_the_context_is_made_by_the_first_call_that_needs_one(books: Books, card: Path) -> None:
    assert books.c.books_total() == TOTAL
    assert not books.c.books_opened()
    assert not list(card.iterdir())
    assert books.free_bytes() == TOTAL - CONTEXT
    assert books.c.books_opened()


def test_allocations_take_whole_pages_and_give_them_back(books: Books) -> None:
    empty = books.free_bytes()
    result, address = books.allocate(1)
    assert (result, empty - books.free_bytes()) == (OK, PAGE)
    result, second = books.allocate(PAGE + 1)
    assert (result, empty - books.free_bytes()) == (OK, 3 * PAGE)
    assert second >= address + PAGE
    assert books.c.books_is_device(ctypes.c_void_p(second))
    assert not books.c.books_is_device(ctypes.c_void_p(id(books)))
    assert (books.free(address), books.free(second), books.free_bytes()) == (OK, OK, empty)


def test_an_address_that_is_not_a_block_cannot_be_freed(books: Books) -> None:
    _, address = books.allocate(4 * PAGE)
    before = books.free_bytes()
    assert books.free(address + PAGE) == INVALID
    assert books.free(id(books)) == INVALID
    assert books.free_bytes() == before
    assert books.free(0) == OK
    assert (books.free(address), books.free(address)) == (OK, INVALID)


def test_nothing_is_an_allocation_of_nothing(books: Books) -> None:
    before = books.free_bytes()
    assert books.allocate(0) == (OK, 0)
    assert books.free_bytes() == before


def test_managed_memory_is_counted_and_can_be_written(books: Books) -> None:
    empty = books.free_bytes()
    address = ctypes.c_void_p()
    assert books.c.books_manage(ctypes.byref(address), ctypes.c_uint64(PAGE + 1)) == OK
    assert empty - books.free_bytes() == 2 * PAGE
    assert books.c.books_is_managed(address)
    assert not books.c.books_is_device(address)
    ctypes.memset(address, 7, PAGE + 1)
    assert (books.free(address.value or 0), books.free_bytes()) == (OK, empty)
    assert not books.c.books_is_managed(address)
    assert books.c.books_manage(ctypes.byref(address), ctypes.c_uint64(empty + 1)) == FULL


def test_a_full_card_says_so_and_changes_nothing(books: Books) -> None:
    rest = books.free_bytes()
    assert books.allocate(rest + PAGE) == (FULL, 0)
    assert books.allocate(1 << 63) == (FULL, 0)
    assert books.free_bytes() == rest
    result, address = books.allocate(rest // PAGE * PAGE)
    assert result == OK
    assert books.allocate(PAGE)[0] == books.create(PAGE)[0] == FULL
    assert books.free(address) == OK
    assert books.allocate(PAGE)[0] == OK


def test_pages_go_back_when_released_and_mapped_nowhere(books: Books) -> None:
    empty = books.free_bytes()
    address = books.reserve(8 * PAGE)
    assert books.free_bytes() == empty  # addresses cost nothing
    (_, first), (_, second) = books.create(2 * PAGE), books.create(PAGE)
    assert empty - books.free_bytes() == 3 * PAGE
    assert books.map(address, 2 * PAGE, first) == OK
    assert books.map(address, PAGE, second) == INVALID  # there is something
    assert books.map(address + 2 * PAGE, PAGE, second) == OK
    assert (books.release(first), books.release(second)) == (OK, OK)
    assert empty - books.free_bytes() == 3 * PAGE  # still mapped
    assert books.unmap(address, 3 * PAGE) == OK
    assert books.free_bytes() == empty
    assert books.unmap(address, PAGE) == INVALID


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6 << 30)), max_size=40))
def test_free_bytes_are_what_is_not_held(books: Books, steps: list[tuple[bool, int]]) -> None:
    held: dict[int, int] = {}
    pages = lambda size: -(-size // PAGE) * PAGE  # noqa: E731
    for take, size in steps:
        free = TOTAL - CONTEXT - sum(held.values())
        assert books.free_bytes() == free
        if take:
            result, address = books.allocate(size)
            assert result == (OK if pages(size) <= free else FULL)
            if result == OK:
                assert not any(address < start + length and start < address + size for start, length in held.items())
                held[address] = pages(size)
        elif held:
            address = sorted(held)[size % len(held)]
            assert books.free(address) == OK
            del held[address]
    for address in held:
        books.free(address)
    assert books.free_bytes() == TOTAL - CONTEXT


# ---- host memory


def resident(start: int, size: int) -> int:
    """Pages of the host behind `size` bytes from the page boundary `start` that take RAM."""
    found = ctypes.create_string_buffer(size // mmap.PAGESIZE)
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), found) == 0
    return sum(byte & 1 for byte in found.raw)


@pytest.mark.parametrize("kind", ["private", "shared", "file"])
def test_a_copy_to_the_host_reads_as_zeros_and_keeps_no_page(books: Books, tmp_path: Path, kind: str) -> None:
    size, edge = MIB, 100
    (tmp_path / "file").write_bytes(b"f" * size)
    with (tmp_path / "file").open("r+b") as file:
        number = file.fileno() if kind == "file" else -1
        memory = mmap.mmap(number, size, flags=mmap.MAP_SHARED if kind == "shared" else mmap.MAP_PRIVATE)
    memory[:] = b"x" * size
    view = ctypes.c_char.from_buffer(memory)
    start = ctypes.addressof(view)
    books.c.host_zero(ctypes.c_void_p(start + edge), ctypes.c_size_t(size - 2 * edge))
    kept = resident(start, size)
    assert kept == (2 if kind == "private" else size // mmap.PAGESIZE)  # the two at the edges
    assert memory[:] == b"x" * edge + bytes(size - 2 * edge) + b"x" * edge
    del view


# ---- card


def test_numbers_and_lists_of_the_record(books: Books) -> None:
    number = books.c.card_number
    assert [number(b"maxGridSize", i) for i in range(3)] == CARD["maxGridSize"]
    assert [number(b"maxBlockSize", i) for i in range(3)] == CARD["maxBlockSize"]
    assert number(b"totalGlobalMem", 0) == TOTAL
    assert (books.c.card_major(), books.c.card_minor()) == (8, 9)
    name = ctypes.create_string_buffer(256)
    books.c.card_name(name, 256)
    assert name.value.decode() == CARD["deviceName"]


def test_cuda_and_nvml_give_one_uuid(books: Books) -> None:
    raw, text = ctypes.create_string_buffer(16), ctypes.create_string_buffer(41)
    books.c.card_uuid(raw)
    books.c.card_uuid_text(text)
    assert text.value.decode() == f"GPU-{uuid.UUID(bytes=raw.raw)}"


@pytest.mark.parametrize(
    ("variable", "key", "words"),
    [
        (None, "warpSize", "LATENTMETER_DRY_CARD is not set"),
        ("{}", "warpSize", "warpSize"),
        ('{"warpSize": "x"}', "warpSize", "warpSize"),
        ('{"maxGridSize": [1, 2]}', "maxGridSize", "maxGridSize"),
    ],
)
def test_a_program_started_past_the_script_is_told_so(
    libraries: Path, variable: str | None, key: str, words: str
) -> None:
    code = f"import ctypes; ctypes.CDLL({str(libraries / 'libdry_cuda.so')!r}).card_number({key.encode()!r}, 2)"
    values = {name: value for name, value in os.environ.items() if name != "LATENTMETER_DRY_CARD"}
    if variable is not None:
        values["LATENTMETER_DRY_CARD"] = variable
    done = subprocess.run([sys.executable, "-c", code], env=values, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"dry CUDA: {words}: start the program through scripts/dry_cuda\n"


PLANNED = sorted(name for name, gpu in gpus().items() if gpu.properties)


def test_a_card_without_a_record_says_why() -> None:
    assert all(gpus()[name].sources["properties"] for name in gpus().keys() - PLANNED)


@pytest.mark.parametrize("name", PLANNED)
def test_each_card_file_has_the_whole_record_and_agrees_with_it(name: str) -> None:
    gpu = gpus()[name]
    assert gpu.properties is not None
    assert set(gpu.properties) == set(CARD)
    assert len(CARD) == 23
    assert gpu.properties["deviceName"] == gpu.name
    assert gpu.properties["deviceVer"] == gpu.capability[0] * 100 + gpu.capability[1] * 10
    assert gpu.properties["multiProcessorCount"] == gpu.multiprocessors
    assert gpu.properties["totalGlobalMem"] == gpu.total_bytes
    assert gpu.sources["properties"]


# ---- NVML

HOLD = """
import ctypes, sys
c = ctypes.CDLL("libdry_cuda.so")
address = ctypes.c_void_p()
assert c.books_allocate(ctypes.byref(address), ctypes.c_uint64(int(sys.argv[1]))) == 0
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(libraries: Path, card: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Start a process that holds some bytes of the card until it is told to end."""
    started = []

    def hold(size: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(size)],
            env=os.environ | {"LD_LIBRARY_PATH": str(libraries)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "holds\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def ask_nvml(libraries: Path, code: str) -> Any:
    """What `code` leaves in `answer`, in a process that loads the stub NVML; it holds 100 MiB of the card itself."""
    script = (
        "import ctypes, json\nfrom profiler.machine import nvml\nc = ctypes.CDLL('libdry_cuda.so')\n"
        "address = ctypes.c_void_p()\nc.books_allocate(ctypes.byref(address), ctypes.c_uint64(100 << 20))\n"
        f"{code}\nprint(json.dumps(answer))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"LD_LIBRARY_PATH": str(libraries)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_nvml_adds_up_the_running_processes(libraries: Path, holder: Callable[[int], Any]) -> None:
    other, ended = holder(300 * MIB), holder(700 * MIB)
    ended.kill()
    ended.wait()
    code = "uuid = nvml.devices().value[0]\nanswer = nvml.snapshot(uuid)"
    answer = ask_nvml(libraries, code)
    ours, theirs = CONTEXT + 100 * MIB, CONTEXT + 300 * MIB
    assert (answer["name"], answer["driver"]) == (CARD["deviceName"], "dry")
    assert answer["total_bytes"] == TOTAL + RESERVED
    assert (answer["used_bytes"], answer["reserved_bytes"]) == (ours + theirs, RESERVED)
    assert answer["free_bytes"] == TOTAL - ours - theirs
    assert answer["process_bytes"] == ours
    assert answer["others"] == [{"pid": other.pid, "bytes": theirs}]


def test_the_first_structure_counts_reserved_as_used(libraries: Path, card: Path) -> None:
    code = (
        "handle = nvml.query('nvmlDeviceGetHandleByIndex', 0)\n"
        "memory = nvml.query('nvmlDeviceGetMemoryInfo', handle).value\n"
        "answer = [memory.total, memory.used, memory.free]"
    )
    total, used, free = ask_nvml(libraries, code)
    assert (total, used) == (TOTAL + RESERVED, CONTEXT + 100 * MIB + RESERVED)
    assert used + free == total


def test_a_wrong_uuid_is_no_card(libraries: Path, card: Path) -> None:
    reason = ask_nvml(libraries, f"answer = nvml.find({'GPU-' + '0' * 8!r}).reason")
    assert reason == f"NVML knows no GPU with UUID GPU-{'0' * 8}"


def test_the_stub_answers_only_where_it_is_loaded() -> None:
    assert nvml.query("nvmlSystemGetDriverVersion").value != "dry"


# ---- what makes the stubs and the environment


def test_generated_functions_succeed_in_silence_or_say_once_that_they_are_absent(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or pytest.skip("no gcc: the stubs cannot be compiled")
    text = build.generate(["cublasSgemm_v2", "cufftGetSize"], 16)
    (tmp_path / "stub.c").write_text(text)
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", "stub.so", "stub.c"], cwd=tmp_path, check=True
    )
    code = "import ctypes; c = ctypes.CDLL('./stub.so'); print(c.cublasSgemm_v2(), c.cufftGetSize(), c.cufftGetSize())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "0 16 16\n"
    assert done.stderr == "dry CUDA: cufftGetSize is not modelled: it answers an error\n"


@pytest.mark.parametrize(
    "name",
    [
        "cudaMallocAsync",
        "cufftGetSize",
        "cusolverDnSgetrf_bufferSize",
        "cusparseCreate",
        "cusparseSpMM_bufferSize",
        "cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize",
    ],
)
def test_no_function_that_hands_back_bytes_succeeds_in_silence(name: str) -> None:
    assert not build.SILENT.match(name)


METADATA = """Name: torch
Requires-Dist: filelock
Requires-Dist: sympy>=1.13.3
Requires-Dist: cuda-toolkit[cublas,cudart,nvrtc]==13.0.3; platform_system == "Linux"
Requires-Dist: nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"
Requires-Dist: nvidia-nccl-cu13==2.29.7; platform_system == "Linux"
Requires-Dist: triton==3.7.1; platform_system == "Linux"
Requires-Dist: optree>=0.13.0; extra == "optree"

About NVIDIA GPUs.
"""


def test_torch_forgets_its_cuda_packages_and_names_the_versions_of_those_needed(tmp_path: Path) -> None:
    metadata = tmp_path / "torch-2.13.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(METADATA)
    needs = environment.forget_cuda(tmp_path)
    assert needs["other"] == ["filelock", "sympy>=1.13.3"]
    assert not re.search(r"^Requires-Dist: (cuda|nvidia|triton)", metadata.read_text(), re.MULTILINE)
    assert metadata.read_text().endswith('extra == "optree"\n\nAbout NVIDIA GPUs.\n')
    assert environment.nvidia_packages(needs["cuda"]) == [
        "nvidia-cudnn-cu13==9.20.0.48",
        "cuda-toolkit[cublas,cudart,nvrtc]==13.0.3",
        "nvidia-cuda-crt==13.0.*",
    ]


def test_a_failure_leaves_nothing_half_made(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt), environment.renamed_when_complete(folder) as partial:
        (partial / "file").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with environment.renamed_when_complete(folder) as partial:
        (partial / "file").touch()
        assert not folder.exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_a_step_that_fails_and_a_start_that_was_killed_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(partial: Path, final: Path, constraints: str) -> None:
        (partial / "venv").mkdir()
        environment.step("a step", [sys.executable, "-c", "raise SystemExit(3)"])

    killed = tmp_path / "dry-cuda-0123456789ab.partial-x"
    killed.mkdir()
    monkeypatch.setattr(environment, "install", fail)
    monkeypatch.setattr(environment, "check", lambda cache: None)
    with pytest.raises(environment.SetupError, match="a step: failed"):
        environment.make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dry-cuda.lock"]


def test_each_release_of_torch_has_an_environment_of_its_own() -> None:
    own = environment.constraints_for(None)
    old = environment.constraints_for("2.9.1")
    assert own == (ROOT / "constraints.txt").read_text()
    assert re.findall(r"^torch.*", old, re.MULTILINE) == ["torch==2.9.1"]
    assert "diffusers==" in old
    assert environment.made_from(old) != environment.made_from(own)
    with pytest.raises(environment.SetupError, match=r"2\.9 is no release of torch: write it as 2\.11\.0"):
        environment.constraints_for("2.9")


@pytest.mark.parametrize(
    ("needs", "packages"),
    [
        (  # torch 2.13.0+cu130
            ["nvidia-cudnn-cu13==9.20.0.48; platform_system == 'Linux'", "cuda-toolkit[cublas,cudart]==13.0.2"],
            ["nvidia-cudnn-cu13==9.20.0.48", "cuda-toolkit[cublas,cudart,nvrtc]==13.0.2", "nvidia-cuda-crt==13.0.*"],
        ),
        (  # torch 2.9.1+cu128
            [
                "nvidia-cuda-nvrtc-cu12==12.8.93; platform_system == 'Linux'",
                "nvidia-cuda-runtime-cu12==12.8.90; platform_system == 'Linux'",
                "nvidia-cuda-cupti-cu12==12.8.90; platform_system == 'Linux'",
                "nvidia-cudnn-cu12==9.10.2.21; platform_system == 'Linux'",
                "nvidia-cublas-cu12==12.8.4.1; platform_system == 'Linux'",
            ],
            [
                "nvidia-cudnn-cu12==9.10.2.21",
                "nvidia-cuda-nvrtc-cu12==12.8.93",
                "nvidia-cuda-runtime-cu12==12.8.90",
                "nvidia-cublas-cu12==12.8.4.1",
                "nvidia-cuda-nvcc-cu12==12.8.*",
            ],
        ),
    ],
    ids=["CUDA 13", "CUDA 12"],
)
def test_nvidias_packages_are_those_that_torch_names(needs: list[str], packages: list[str]) -> None:
    assert environment.nvidia_packages(needs) == packages


def test_missing_tools_and_a_small_disk_are_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "gcc" else tool)
    with pytest.raises(environment.SetupError, match="needs gcc: install gcc and binutils"):
        environment.check(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "g++" else tool)
    with pytest.raises(environment.SetupError, match=r"needs g\+\+: install it"):
        build.check()
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda tool: tool)
    monkeypatch.setattr(environment, "DISK_BYTES", 1 << 60)
    with pytest.raises(environment.SetupError, match="XDG_CACHE_HOME"):
        environment.check(tmp_path)


def start(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    values = os.environ | {"LATENTMETER_PYTHON": sys.executable} | ({"PATH": path} if path else {})
    return subprocess.run([ROOT / "scripts" / "dry_cuda", *arguments], env=values, capture_output=True, text=True)


@pytest.mark.skipif(os.uname().sysname + os.uname().machine != "Linuxx86_64", reason="dry CUDA runs on Linux x86-64")
def test_a_wrong_start_is_refused_before_anything_is_made() -> None:
    nothing, unknown = start(), start("--gpu", "h999", "true")
    assert nothing.returncode == unknown.returncode == 2
    assert "which command?" in nothing.stderr
    assert "invalid choice: 'h999'" in unknown.stderr
    assert "l40s" in unknown.stderr
    assert "about 1.6 GB to download and 3 GB of disk" in " ".join(start("--help").stdout.split())


def test_another_machine_is_told_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "uname").write_text("#!/bin/sh\necho Darwin arm64\n")
    (tmp_path / "uname").chmod(0o755)
    done = start("true", path=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert done.stderr == (
        "dry CUDA runs on Linux x86-64 only (torch's CUDA build is made for it); this is Darwin arm64\n"
    )
