"""Calls of an offloaded pipeline's components that are copied leave the story of calls that are traced."""

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")  # text encoders

from profiler.data.workload import Placement
from profiler.estimation.placed import trace_placed
from profiler.machine.target import target_stack
from profiler.stages.generation import Generation
from profiler.trace.placed import PlacedTrace
from tests.pipelines import PIPELINES

PLACEMENTS = {
    "none": Placement(),
    "model": Placement(offload="model"),
    "sequential": Placement(offload="sequential"),
    "block": Placement(offload="group-block"),
    "leaf": Placement(offload="group-leaf"),
    "leaf and stream": Placement(offload="group-leaf", stream=True),
}


def traced(name: str, how: str, *, repeats: bool, table: bool = False) -> tuple[PlacedTrace, int]:
    """The trace of two calls of four steps, and how many ops were looked at; with a `table` beside the denoiser's blocks."""
    trace = PlacedTrace(target_stack("rtx-4090", "2.13.0", None)[0], repeats=repeats)
    pipe, call = PIPELINES[name]()
    if table:
        pipe.transformer.x_embedder.register_buffer("table", torch.empty(4096, device="meta", dtype=torch.bfloat16))
    seen, execute = [], trace.execute

    def counted(func: Any, args: Any, kwargs: Any) -> Any:
        seen.append(func)
        return execute(func, args, kwargs)

    trace.execute = counted  # type: ignore[method-assign]
    trace_placed(Generation(pipe, pipe, call | {"num_inference_steps": 4}, PLACEMENTS[how]), trace, warm_calls=1)
    return trace, len(seen)


def told(trace: PlacedTrace) -> tuple[Any, ...]:
    """Everything that a trace says."""
    blocks = [
        (b.bytes, b.shape, b.dtype, b.term, b.phase, b.born, b.died, b.queue, b.awaited, trace.ops[b.op])
        for b in trace.blocks
    ]
    host = (trace.host.pinned, trace.host.peak_pageable, trace.host.peak)
    return [*trace.events], blocks, dict(trace.routes), trace.owners, trace.cache_emptied_at, trace.marks, host


@pytest.mark.parametrize("how", PLACEMENTS)
@pytest.mark.parametrize("name", ["wan", "flux"])
def test_a_pipeline_tells_the_same_story(name: str, how: str) -> None:
    (copied, few), (whole, many) = (traced(name, how, repeats=repeats) for repeats in (True, False))
    assert told(copied) == told(whole)
    assert few < many * 0.49  # the second call is copied too, and of the first what its steps repeat


def test_a_buffer_that_the_first_call_replaced_is_moved_twice_from_then_on() -> None:
    """Group offload knows the tensor that was there, and `Module.to` puts another one: that of SD 3's positions, say."""
    (copied, few), (whole, many) = (traced("flux", "block", repeats=repeats, table=True) for repeats in (True, False))
    assert told(copied) == told(whole)
    assert few < many
