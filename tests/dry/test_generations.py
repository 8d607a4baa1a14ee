"""Small pipelines in dry CUDA, recorded here and now, against their estimates: what the table of whole generations does."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import profiler
from profiler.data.stack import DRY
from profiler.data.workload import Placement
from profiler.files.store import RunStore
from profiler.machine.cards import assumed_stack, find_gpu
from tests.dry.test_dry_cuda import ROOT, dry
from tests.pipelines import PIPELINES

pytest.importorskip("transformers")  # text encoders

pytestmark = pytest.mark.dry


@pytest.mark.parametrize(
    ("name", "placement", "flags"),
    [
        ("flux", Placement(offload="model"), ("model",)),
        ("wan", Placement(offload="sequential"), ("sequential",)),
        ("cogvideox", Placement(offload="group-leaf", stream=True), ("group-leaf", "--stream")),
    ],
)
def test_a_generation_takes_what_is_estimated(
    name: str, placement: Placement, flags: tuple[str, ...], tmp_path: Path
) -> None:
    script, out = ROOT / "scripts" / "dry" / "record_pipeline.py", tmp_path / "out.json.gz"
    factory = f"{ROOT / 'tests' / 'pipelines.py'}:{name}"
    done = dry("python", script, factory, "--offload", *flags, "--out", out, gpu="rtx-4090")
    assert done.returncode == 0, done.stderr
    true = json.loads(gzip.decompress(out.read_bytes()))
    pipe, call = PIPELINES[name]()
    # Segments' addresses rise in dry CUDA: of equal free blocks it takes others than a card does.
    stack = assumed_stack(find_gpu("rtx-4090"), "2.13.0", None, {DRY: "1"})
    found = profiler.estimate_call(pipe, inputs=call, placement=placement, stack=stack)
    for number in (0, 1, 2):
        dry_peaks = [(p["allocated_peak"], p["reserved_peak"]) for p in true["phases"] if p["call"] == number]
        peaks = [(p.peak.allocated_bytes, p.peak.reserved_bytes) for p in found.phases if p.call == number]
        assert highest(peaks) == highest(dry_peaks)
    assert found.host is not None
    assert found.host.pinned == (true["phases"][-1]["pinned"] or 0)


def highest(peaks: list[tuple[Any, Any]]) -> tuple[int, int]:
    """The most allocated and the most reserved; a load of nothing has no phase."""
    return max((a for a, _ in peaks), default=0), max((r for _, r in peaks), default=0)


def test_a_run_of_a_generation_is_equal_in_every_phase(tmp_path: Path) -> None:
    """torch 2.13.0, an RTX 4090's record: SD 1.5 at its published size, under model offload and all on the card."""
    case = {"model": "sd1.5", "stages": ["generate"], "generation": [{}, {"placement": {"offload": "model"}}]}
    (tmp_path / "s.yaml").write_text(json.dumps({"name": "s", "title": "t", "warm_calls": 1, "cases": [case]}))
    done = dry("latentmeter", "run", tmp_path / "s.yaml", "--out", tmp_path / "run", gpu="rtx-4090")
    assert done.returncode == 0, done.stdout + done.stderr
    for record in RunStore(tmp_path / "run").records():
        assert record.estimate is not None
        assert record.measurement is not None
        ours = [(phase.name, phase.call, phase.peak) for phase in record.estimate.phases]
        assert ours == [(phase.name, phase.call, phase.peak) for phase in record.measurement.phases]
        assert len(ours) == 11
        assert record.estimate.host is not None
        assert record.measurement.pinned_bytes == record.estimate.host.pinned
