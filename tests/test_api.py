"""The Python API on two tiny models: typed records out, the same answer twice, and estimates that meet measurements."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

import profiler
from profiler.comparison.case import Comparison
from profiler.data.records import Estimate, Record
from profiler.data.stack import Stack
from profiler.data.workload import MemoryOptions
from profiler.errors import UserError
from profiler.files.store import RunStore

IMAGE = "tests/models/tiny-image.yaml"
VIDEO = "tests/models/tiny-video.yaml"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases that are measured here, one that is estimated for a card, one that cannot be."""
    path = tmp_path_factory.mktemp("sweep") / "tiny.yaml"
    cases = [
        {"model": IMAGE, "stages": ["decode"]},
        {"model": VIDEO, "stages": ["encode"], "frames": 1},
        {"model": VIDEO, "stages": ["decode"], "gpu": "h200"},
        {"model": VIDEO, "stages": ["decode"], "frames": 2},
    ]
    data = {"name": "tiny", "title": "Tiny", "device": "cpu", "warm_calls": 1, "tolerance_percent": 1, "cases": cases}
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def folder(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of that sweep."""
    out = tmp_path_factory.mktemp("runs") / "run"
    profiler.run(sweep, out)
    return out


@pytest.fixture(scope="module")
def records(folder: Path) -> list[Record]:
    return RunStore(folder).records()


def test_the_package_exports_what_it_names_and_imports_nothing_heavy() -> None:
    assert all(hasattr(profiler, name) for name in profiler.__all__)
    assert {"estimate", "measure", "compare", "run", "to_frame"} <= set(profiler.__all__)
    assert (
        issubclass(profiler.UserError, profiler.LatentmeterError)
        and profiler.ModelError.__module__ == "profiler.errors"
    )
    code = "import sys, profiler; print(sorted({'torch', 'diffusers', 'pandas', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_estimate_is_the_same_twice() -> None:
    once, again = (profiler.estimate(VIDEO, "decode", gpu="h200", frames=9, batch=2) for _ in range(2))
    assert isinstance(once, Estimate)
    assert replace(once, seconds=0) == replace(again, seconds=0)
    assert (once.workload.key, once.output_shapes) == (f"{VIDEO}/decode/9x32x32/b2/fp32", ((2, 3, 9, 32, 32),))


def test_threads_take_turns() -> None:
    """Each in a fresh process, where diffusers is imported by the first: the others found no class in it."""
    code = (
        "import profiler, sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "ask = lambda side: profiler.estimate(sys.argv[1], gpu='h200', height=side, width=32, cache=False).workload.height\n"
        "with ThreadPoolExecutor(3) as pool: print(*pool.map(ask, (32, 64, 96)))"
    )
    done = subprocess.run([sys.executable, "-c", code, IMAGE], capture_output=True, text=True, check=True)
    assert done.stdout == "32 64 96\n"


def test_an_estimate_is_for_the_stack_that_was_asked() -> None:
    card = profiler.estimate(IMAGE, gpu="rtx-4090", torch="2.7.1", cudnn=90701).stack
    assert (card.gpu, card.torch, card.cudnn) == ("NVIDIA GeForce RTX 4090", "2.7.1", 90701)
    mine = Stack(device="cpu", torch="2.13.0")
    assert profiler.estimate(IMAGE, stack=mine).stack is mine
    assert profiler.estimate(IMAGE, torch="2.6.0").stack.gpu == "NVIDIA H200"


def test_an_estimate_takes_memory_options() -> None:
    plain = profiler.estimate(IMAGE, gpu="h200", height=128, width=128)
    tiled = profiler.estimate(IMAGE, gpu="h200", height=128, width=128, options=MemoryOptions(tiling=True))
    assert tiled.options["tiling"].applied
    assert tiled.peak.allocated_bytes != plain.peak.allocated_bytes


def test_a_measurement_is_a_record_with_its_stack_and_phases() -> None:
    record = profiler.measure(IMAGE, "patch-embed", device="cpu", warm_calls=2, batch=3)
    assert record.status == "ok"
    assert record.stack
    assert record.measurement
    assert record.stack.device == "cpu"
    assert record.measurement.output_shapes == ((3, 8, 16, 16),)
    phases = [reading.phase for reading in record.measurement.readings]
    assert phases == ["model", "inputs", "cold", "warm", "warm", "attribution"]
    assert [reading.phase for reading in record.measurement.warm] == ["warm", "warm"]
    # Weights of an 8x4x3x3 convolution and its bias, 3x4x16x16 latents and 3x8x16x16 features, all fp32.
    terms = record.measurement.terms
    assert (terms.weights, terms.inputs, terms.outputs) == ((8 * 4 * 9 + 8) * 4, 3 * 4 * 256 * 4, 3 * 8 * 256 * 4)

    estimate = profiler.estimate(IMAGE, "patch-embed", stack=record.stack, batch=3)
    (row,) = profiler.comparisons([replace(record, estimate=estimate)])
    assert (row.verdict, row.allocated.difference) == ("exact", 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: profiler.estimate("tiny-imag"), "no model 'tiny-imag'"),
        (lambda: profiler.estimate(IMAGE, "decoed"), "stage: no stage 'decoed'; one of encode, decode"),
        (lambda: profiler.estimate(IMAGE, gpu="h201"), "did you mean .*'h200'"),
        (lambda: profiler.estimate(IMAGE, height=33), "nearest: 32 or 34"),
        (lambda: profiler.estimate(IMAGE, dtype="fp8"), "dtype: no dtype 'fp8'; one of fp32, fp16, bf16"),
        (lambda: profiler.measure(IMAGE, frames=2), "this is an image model"),
        (lambda: profiler.run("quikstart"), "gpu-validation, quickstart, quickstart-cuda"),
        (lambda: profiler.comparisons("tests"), "tests: no run here"),
    ],
)
def test_a_mistake_is_a_value_error_that_names_the_way_out(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError)


def test_a_run_answers_every_case_in_order(records: list[Record]) -> None:
    assert [(record.key, record.status) for record in records] == [
        (f"{IMAGE}/decode/1x32x32/b1/fp32", "ok"),
        (f"{VIDEO}/encode/1x32x32/b1/fp32", "ok"),
        (f"{VIDEO}/decode/5x32x32/b1/fp32@h200", "ok"),
        (f"{VIDEO}/decode/2x32x32/b1/fp32", "skipped"),
    ]
    assert [(record.estimate is not None, record.measurement is not None) for record in records] == [
        (True, True),
        (True, True),
        (True, False),
        (False, False),
    ]
    assert {record.tolerance for record in records} == {0.01}


def test_on_the_cpu_estimate_and_measurement_close_to_the_byte(folder: Path) -> None:
    rows = profiler.comparisons(folder)
    assert [row.verdict for row in rows] == ["exact", "exact", "not comparable", "not comparable"]
    for row in rows[:2]:
        for term in ("weights", "inputs", "outputs", "activations"):
            assert row.terms[term].difference == 0


def test_the_same_run_twice_gives_the_same_records(sweep: Path, folder: Path, records: list[Record]) -> None:
    before = (folder / "records.jsonl").read_bytes()
    told = []
    assert profiler.run(sweep, folder, tell=told.append) == records
    assert told == []
    assert (folder / "records.jsonl").read_bytes() == before
    assert all((folder / name).exists() for name in ("report.html", "report.md", "report.json", "records.csv"))


def test_every_byte_of_the_difference_is_explained_from_the_events_that_were_kept(
    folder: Path, records: list[Record]
) -> None:
    reasons = profiler.explain(folder)
    assert [reason.missing for reason in reasons] == [
        "",
        "",
        "ok: nothing was measured",
        "skipped: nothing was measured",
    ]
    for reason, record in zip(reasons[:2], records, strict=False):
        assert reason.explanation == record.explanation
        assert reason.explanation is not None
        assert (reason.explanation.unexplained, reason.explanation.only_measured) == (0, 0)
        (cause,) = reason.explanation.causes
        assert record.measurement is not None
        assert cause.bytes == record.measurement.terms.workspace
    (again,) = profiler.explain(folder, records[0].key, again=True)
    assert again.explanation == records[0].explanation


def test_compare_reads_a_folder_or_takes_records(folder: Path, records: list[Record]) -> None:
    rows: list[Comparison] = profiler.comparisons(folder)
    assert rows == profiler.comparisons(str(folder)) == profiler.comparisons(iter(records))
    assert {row.tolerance for row in rows} == {0.01}
    assert {row.tolerance for row in profiler.comparisons(records, 0.5)} == {0.5}


def test_the_frame_is_what_the_csv_holds(folder: Path) -> None:
    frame = profiler.to_frame(profiler.comparisons(folder))
    sizes = [name for name in frame if str(name).endswith("_bytes")]
    assert {str(frame[name].dtype) for name in sizes} == {"Int64"}
    known = frame["allocated_measured_bytes"].notna()
    assert list(known) == [True, True, False, False]
    assert frame["allocated_measured_bytes"][2] is pd.NA
    assert frame["reserved_measured_bytes"].isna().all(), "the CPU has no cache: unknown is NA, not 0"
    assert frame["reserved_estimated_bytes"].notna().tolist() == [False, False, True, False]
    written = pd.read_csv(folder / "records.csv", dtype=dict.fromkeys(sizes, "Int64"))
    assert written["key"].tolist() == frame["key"].tolist()
    pd.testing.assert_frame_equal(written[sizes], frame[sizes])
