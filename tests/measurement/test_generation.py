"""A whole generation as a case of a run: the real pipeline object, in a worker of its own."""

import json
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from profiler.files.load import from_dict

pytest.importorskip("transformers")  # text encoders

from torch import nn

from profiler.data.memory import Memory, PhaseLevels
from profiler.data.workload import GenerationOptions, Placement, Workload
from profiler.measurement.meter import Cut
from profiler.measurement.parts import Parts
from profiler.measurement.worker import Worker
from profiler.models.pipeline import build_pipeline
from profiler.models.pipeline_spec import PipelineSpec
from profiler.sweeps import plan
from profiler.sweeps.plan import Sweep, plan_sweep
from profiler.sweeps.publish import publish
from profiler.sweeps.run import run_sweep
from tests.pipelines import small_sd15


@pytest.fixture(scope="module")
def small() -> PipelineSpec:
    """Small enough for a CPU: without the safety checker, which is larger than all the rest."""
    found = small_sd15(None)
    return replace(found, components=found.components | {"safety_checker": None})


def test_a_generation_is_measured_and_reported(
    small: PipelineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "find_pipeline", lambda _: small)
    case = {"model": "sd1.5", "stages": ["generate"], "height": 64, "width": 64, "dtype": "fp32"}
    sweep = {"name": "s", "title": "t", "device": "cpu", "warm_calls": 1}
    planned = plan_sweep(from_dict(Sweep, sweep | {"cases": [case | {"generation": {"steps": 2}}]}))
    (record,) = run_sweep(planned, tmp_path)
    assert record.key == "sd1.5/generate/1x64x64/b1/fp32/steps-2"
    assert record.status == "ok", record.failure
    found = record.measurement
    assert found is not None
    assert [reading.phase for reading in found.readings] == ["model", "inputs", "cold", "warm"]
    modules = [part for part in build_pipeline(small, "fp32").components.values() if isinstance(part, nn.Module)]
    weights = sum(w.nbytes for module in modules for w in (*module.parameters(), *module.buffers()))
    assert found.readings[0].end.allocated_bytes == weights
    rise = (found.peak.allocated_bytes or 0) - weights
    assert rise > 64 * 64 * 128 * 4  # the VAE's widest layer at full size, in fp32
    assert found.warm[0].peak.allocated_bytes == found.peak.allocated_bytes
    assert found.phases == ()
    assert record.notes["estimate"].startswith("a whole generation is estimated for a card alone")
    publish(tmp_path)
    assert "| sd1.5 | generate | 1\u00d764\u00d764 |" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        (GenerationOptions(placement=Placement(offload="model")), "placement: components are moved to a card"),
        (GenerationOptions(decode_chunk=2), "decode_chunk: StableDiffusionPipeline has no decode_chunk_size"),
    ],
)
def test_what_is_not_covered_is_skipped_with_its_reason(
    small: PipelineSpec, generation: GenerationOptions, message: str
) -> None:
    told = StringIO()
    assert not Worker(small.draft("generate", generation=generation), small, "cpu", 0, told).run()
    ended = json.loads(told.getvalue().splitlines()[-1])
    assert ended["status"] == "skipped"
    assert ended["failure"]["message"].startswith(message)


@dataclass
class Books:
    """A meter whose books the test keeps: bytes now and at most, and how many births and deaths there were."""

    now: int = 0
    peak: int = 0
    position: int = 0

    def take(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)
        self.position += 1

    def cut(self) -> Cut:
        now, peak = (Memory(allocated_bytes=size, reserved_bytes=size) for size in (self.now, self.peak))
        self.peak = self.now
        return Cut(self.position, now, peak, None)


class Part(nn.Module):
    """A component: hooks evict another one of `evicted` bytes and bring its own `size`; then its layer runs."""

    def __init__(self, books: Books, size: int, evicted: int) -> None:
        super().__init__()
        self.books, self.size, self.evicted, self.layer = books, size, evicted, Layer(books)

    def forward(self) -> None:
        self.books.take(-self.evicted)
        self.books.take(self.size)
        self.layer()


class Layer(nn.Module):
    """Takes 5 bytes and gives them back."""

    def __init__(self, books: Books) -> None:
        super().__init__()
        self.books = books

    def forward(self) -> None:
        self.books.take(5)
        self.books.take(-5)


def test_a_phase_is_its_components_own_peak_and_not_that_of_the_evicted_one() -> None:
    books = Books()
    pipeline = nn.ModuleDict(
        {"text_encoder": Part(books, 100, 0), "unet": Part(books, 40, 100), "vae": Part(books, 10, 40)}
    )
    parts: Any = Parts(books)  # type: ignore[arg-type]
    with parts.watched(None):
        books.take(7)
    for _ in range(2):
        with parts.watched(pipeline):
            pipeline["text_encoder"]()
            pipeline["unet"]()
            with parts.part("scheduler"):
                books.take(1)
            with parts.part("vae"):  # its half, which is no call of the module
                pipeline["vae"].forward()
            books.take(2)
            books.take(-13)
    found = parts.phases()
    assert found == tuple(
        PhaseLevels(name=name, call=call, peak=Memory(allocated_bytes=peak, reserved_bytes=peak))
        for name, call, peak in (
            ("load", 0, 7),
            *(
                (name, call, peak)
                for call in (1, 2)
                for name, peak in (("text encode", 112), ("first step", 52), ("decode", 23), ("post-process", 20))
            ),
        )
    )


def test_a_case_of_a_pipeline_has_its_published_size(small: PipelineSpec) -> None:
    assert small.draft("generate", batch=2, height=None) == Workload(
        model="sd1.5",
        stage="generate",
        frames=1,
        height=512,
        width=512,
        batch=2,
        dtype="fp16",
        generation=GenerationOptions(),
    )
