"""The process with cuDNN may die, talk nonsense, hang or be killed: the closed form stands, and the answer says why."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import profiler
from profiler.data.shown import first_notes
from profiler.estimation import cache as estimates
from profiler.kernels import cudnn_library, cudnn_plans, cudnn_process
from profiler.kernels.cudnn_library import Library
from profiler.kernels.cudnn_plans import SHIPPED_BY, Planner
from profiler.kernels.cudnn_process import CudnnProcess, try_planner
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.measurement import doctor

ANSWERS = "import sys\nnext(sys.stdin)\nfor q in sys.stdin: print('hello', ' 5', 88, sep='\\n', flush=True)"
DIES = "import sys; sys.exit('first line\\n\\x1b[31mno such library')"
DIES_LATER = "import os\ninput(); input()\nprint(88, flush=True)\nos.abort()"
NONSENSE = "import sys; sys.stdout.buffer.write(b'\\xff' * 9999 + b'\\n12x\\n'); next(sys.stdin)"
HANGS = "import time; time.sleep(60)"
CHATTERS = "while True: print('still at work')"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
ASKED = {"model": "tests/models/tiny-image.yaml", "gpu": "h200", "height": 44, "width": 52}
Serve = Callable[[str], list[str]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Puts a program of a few lines in the server's place; returns the starts of it, a growing list."""
    starts: list[str] = []

    def put(program: str) -> list[str]:
        monkeypatch.setattr(cudnn_process, "missing", lambda: None)
        monkeypatch.setattr(cudnn_process, "PATIENCE", 0.5 if program in (HANGS, CHATTERS) else 20.0)
        command = [sys.executable, "-c", program]
        monkeypatch.setattr(cudnn_process, "child_command", lambda module: starts.append(module) or command)
        return starts

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    monkeypatch.setattr(cudnn_plans, "installed_cudnn", lambda: SHIPPED_BY)
    for module in (cudnn_plans, cudnn_process):
        monkeypatch.setattr(module, "front_end_version", lambda: "1.28.0-9.20.0.48")
    try_planner.cache_clear()
    yield put
    try_planner.cache_clear()


def planner() -> Planner:
    return Planner(assumed_stack(find_gpu("h200"), "2.13.0"))


def test_what_a_library_prints_is_no_answer(serve: Serve) -> None:
    serve(ANSWERS)
    asked = planner()
    assert [asked.answer(question) for question in ("a question", "another")] == [88, 88]
    asked.close()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (DIES, r"ended with code 1, \x1b[31mno such library"),
        (NONSENSE, "ended with code 0"),
        (HANGS, "not within 0.5 s"),
        (CHATTERS, "not within 0.5 s"),
        (KILLED, "ended by SIGKILL"),
    ],
    ids=["dies", "nonsense", "hangs", "chatters", "killed"],
)
def test_a_process_that_does_not_answer_is_told_and_asked_once(program: str, reason: str, serve: Serve) -> None:
    starts = serve(program)
    asked = planner()
    assert [asked.answer(question) for question in ("a question", "another")] == [None, None]
    asked.close()
    assert len(starts) == 1
    (said,) = asked.sources.unplanned
    assert said.startswith("cuDNN 9.20.0.48 is installed but does not answer (")
    assert said.endswith(f"): {reason}")


def test_what_was_answered_before_a_death_counts(serve: Serve) -> None:
    serve(DIES_LATER)
    asked = planner()
    assert [asked.answer(question) for question in ("a question", "another")] == [88, None]
    asked.close()
    assert asked.sources.planned_by == {SHIPPED_BY: 1}
    assert "ended by SIGABRT" in next(iter(asked.sources.unplanned))


def test_an_estimate_says_that_its_planner_died_and_is_not_kept(serve: Serve) -> None:
    serve(DIES)
    found = profiler.estimate(**ASKED)
    said = first_notes(found.notes)["stack.planner"]
    assert "is installed but does not answer" in said and "ended with code 1" in said
    assert "pip install" not in said  # what is installed
    serve(ANSWERS)
    again = profiler.estimate(**ASKED)
    assert "convolution cudnn, closed form" not in again.routes
    assert "stack.planner" not in again.notes
    assert "kept" in profiler.estimate(**ASKED).notes["seconds"]


def test_a_planner_that_appears_or_changes_makes_kept_estimates_void(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(ANSWERS)
    kept = []
    for version in (None, "1.28.0-9.20.0.48", "1.28.0-9.24.0.43", "1.28.0-9.24.0.43"):
        monkeypatch.setattr(cudnn_process, "missing", lambda there=version: None if there else "nothing is installed")
        for module in (cudnn_plans, estimates):
            monkeypatch.setattr(module, "front_end_version", lambda version=version: version)
        found = profiler.estimate(**ASKED)
        kept.append("kept" in found.notes.get("seconds", ""))
        assert ("nothing is installed" in found.notes.get("stack.planner", "")) is (version is None)
    assert kept == [False, False, False, True]


@pytest.mark.parametrize(("program", "level"), [(ANSWERS, "ok"), (DIES, "note")])
def test_the_doctor_asks_for_one_convolution(program: str, level: str, serve: Serve) -> None:
    serve(program)
    (found,) = (finding for finding in doctor.doctor()[1] if finding.subject == "planner")
    assert found.level == level
    assert ("answers: 88 B" in found.text) if level == "ok" else ("no such library" in found.text)
    assert (try_planner().bytes, bool(try_planner().reason)) == ((88, False) if level == "ok" else (None, True))


@pytest.mark.parametrize(
    ("installed", "stack", "level", "says"),
    [
        (92000, 92000, "ok", "for cuDNN 9.20.0 ask the shipped plans of cuDNN 9.20.0, then it, then a closed form"),
        (
            92801,
            92000,
            "note",
            "for cuDNN 9.20.0 do not ask it, but the shipped plans of cuDNN 9.20.0, then a closed form",
        ),
        (92801, 92700, "ok", "for cuDNN 9.27.0 ask it, then the shipped plans of cuDNN 9.20.0, then a closed form"),
    ],
)
def test_the_doctor_says_whom_estimates_ask(
    installed: int, stack: int, level: str, says: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(ANSWERS)
    monkeypatch.setattr(cudnn_plans, "installed_cudnn", lambda: installed)
    found = doctor._planner(replace(assumed_stack(find_gpu("h200"), "2.13.0"), cudnn=stack))
    assert (found.level, says in found.text) == (level, True), found.text


def test_the_process_gets_no_setting_that_changes_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question says itself whether TF32 is allowed, and answers are kept: the asker's environment must not decide."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    for wheel in (True, False):
        monkeypatch.setattr(cudnn_process, "library", lambda wheel=wheel: Library("9.20.0.48", Path(), wheel))
        found = cudnn_process.environment()
        assert "NVIDIA_TF32_OVERRIDE" not in found and "PATH" in found
        assert ("LD_LIBRARY_PATH" in found) is not wheel  # a wheel finds its own parts


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is remembered of what is installed."""
    lib = cudnn_library
    known = (lib.library, lib.cublas_lt, lib.front_end_version, lib.installed_cudnn)
    for function in known:
        function.cache_clear()
    yield
    for function in known:
        function.cache_clear()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("9.20.0.48", "its front-end is not: pip install nvidia-cudnn-frontend"),
        ("9.5.1.17", "cannot plan without a GPU"),
    ],
)
def test_a_wheel_is_found_wherever_python_looks(
    version: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "nvidia_cudnn_cu13-9.dist-info"
    site.mkdir()
    (site / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nvidia-cudnn-cu13\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = cudnn_library.library()
    assert found == Library(version, tmp_path / "nvidia/cudnn/lib", wheel=True)
    there = None if "front-end" in reason else object()
    monkeypatch.setattr(cudnn_library.importlib.util, "find_spec", lambda name: there)
    said = cudnn_library.missing()
    assert said is not None and version in said and reason in said
    with pytest.raises(cudnn_process.SilentError, match=version):
        CudnnProcess(None)


@pytest.mark.usefixtures("fresh")
def test_the_systems_cudnn_is_known_by_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cudnn_library, "WHEELS", ())
    monkeypatch.setattr(cudnn_library, "SYSTEM", ())
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    (tmp_path / "libcudnn.so.9").touch()  # a stub: nobody knows its version
    assert cudnn_library.library() is None
    cudnn_library.library.cache_clear()
    (tmp_path / "libcudnn.so.9").rename(tmp_path / "libcudnn.so.9.19.0")
    (tmp_path / "libcudnn.so.9").symlink_to("libcudnn.so.9.19.0")
    assert cudnn_library.library() == Library("9.19.0", tmp_path, wheel=False)
    assert cudnn_library.installed_cudnn() == 91900


@pytest.mark.skipif(cudnn_library.installed_cudnn() != SHIPPED_BY, reason="cuDNN 9.20 is not installed to be asked")
def test_engines_compiled_at_run_time_are_named_without_a_driver() -> None:
    """torch 2.13.0+cu130 borrows nothing in dry CUDA on an A100 of 40 GB; without the stand-in 242,062 B are planned."""
    process = CudnnProcess(find_gpu("a100-40gb").properties)
    question = "float16 9,13440,19,24 13440,1,3,3 1,1 1,1 1,1 13440 channels_last half"
    assert process.ask(question) == 0
    process.close()


@pytest.mark.skipif(cudnn_library.installed_cudnn() != SHIPPED_BY, reason="cuDNN 9.20 is not installed to be asked")
def test_a_pointwise_convolution_is_handed_to_cublas() -> None:
    """On a real H200 (cuDNN 9.19.0) these borrowed 272 bytes; where cuBLASLt does not start, 201,326,739 are planned."""
    process = CudnnProcess(find_gpu("h200").properties)
    assert process.ask("float16 1,256,512,512 128,256,1,1 0,0 1,1 1,1 1 contiguous half") == 0
    process.close()


def test_without_cublas_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudnn_library, "library", lambda: Library("9.20.0", Path("absent"), wheel=True))
    monkeypatch.setattr(cudnn_library, "installed_cudnn", lambda: SHIPPED_BY)
    monkeypatch.setattr(cudnn_library, "cublas_lt", lambda: None)
    monkeypatch.setattr(cudnn_library.importlib.util, "find_spec", lambda name: object())
    assert "pip install nvidia-cublas" in (cudnn_library.missing() or "")


def test_a_library_made_in_memory_stands_in_for_another() -> None:
    """It is found by its name: a library that needs that name loads. What it lacks is looked up in the one it needs."""
    name = "libabsent.so.7"
    program = f"""
import ctypes, os, platform
from profiler.kernels.elf import MACHINES, shared_library
from profiler.kernels.no_driver import ENDS, NOT_INITIALIZED
machine = MACHINES[platform.machine()]
file = os.memfd_create("x")
functions = {{"cuFirst": NOT_INITIALIZED[machine], "cuInit": ENDS[machine]}}
os.write(file, shared_library({name!r}, machine, functions, "libm.so.6"))
ctypes.CDLL(f"/proc/self/fd/{{file}}", mode=os.RTLD_GLOBAL)
found = ctypes.CDLL({name!r})
print(found.cuFirst(), found.cuInit(0), hasattr(found, "cbrt"), hasattr(found, "cuGone"))
"""
    with pytest.raises(OSError, match=name):
        ctypes.CDLL(name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    assert done.stdout == "3 0 True False\n", done.stderr


def test_the_stand_in_of_cublas_has_as_many_algorithms_as_are_asked_for() -> None:
    """Its machine code is called as cuDNN calls it: two results of 96 bytes, written with success and no workspace."""
    program = """
import ctypes, os, platform
from profiler.kernels.elf import MACHINES, shared_library
from profiler.kernels.no_driver import CUBLAS_LT
machine = MACHINES[platform.machine()]
file = os.memfd_create("x")
os.write(file, shared_library("libx.so", machine, {name: code[machine] for name, code in CUBLAS_LT.items()}))
found = ctypes.CDLL(f"/proc/self/fd/{file}")
handle, count, results = ctypes.c_void_p(), ctypes.c_int(), (ctypes.c_ubyte * 200)(*[7] * 200)
print(found.cublasLtCreate(ctypes.byref(handle)), bool(handle))
print(found.cublasLtMatmulAlgoGetHeuristic(handle, *[None] * 6, 2, results, ctypes.byref(count)), count.value)
print(set(results[:192]), set(results[192:]), found.cublasLtDestroy(handle))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    assert done.stdout.split("\n")[:3] == ["0 True", "0 2", "{0} {7} 0"], done.stderr
