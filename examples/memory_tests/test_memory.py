"""What the project promises of its memory, checked on any machine: `pytest` here, with latentmeter installed."""

import pytest
import torch
from poster import PosterPipeline, make_pipeline

from profiler import Placement
from profiler.testing.peak import PeakMemory

# The card of all tests here, and the versions that run on it: those of the machine that runs the tests do not matter then.
pytestmark = pytest.mark.peak_memory(gpu="rtx-3060-12gb", torch="2.13.0", cudnn=92000)


@pytest.fixture
def pipe() -> PosterPipeline:
    """The whole pipeline."""
    with torch.device("meta"):  # weights without data: nothing is allocated here either
        return make_pipeline()


@pytest.mark.peak_memory("1 GiB")
def test_four_pictures(pipe: PosterPipeline, peak_memory: PeakMemory) -> None:
    """As many as are asked for at once."""
    peak_memory(pipe, inputs={"labels": [1, 2, 3, 4], "steps": 3})


@pytest.mark.peak_memory("600 MiB")
def test_one_picture_with_offload(pipe: PosterPipeline, peak_memory: PeakMemory) -> None:
    """What a small card needs, and how much of the host."""
    found = peak_memory(pipe, inputs={"labels": [1], "steps": 3}, placement=Placement(offload="model"))
    assert found.host is not None
    assert found.host.peak < 1 << 30


@pytest.mark.peak_memory("256 MiB", level="reserved")
@pytest.mark.parametrize("side", [512, 1024])
def test_the_refiner_alone(pipe: PosterPipeline, peak_memory: PeakMemory, side: int) -> None:
    """One module of it, whatever calls it."""
    peak_memory(pipe.refiner, inputs=[torch.empty(1, 3, side, side, dtype=torch.bfloat16, device="meta")])
