"""Calls of an offloaded pipeline's components that are copied leave the story of calls that are traced."""

from collections.abc import Callable
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


def traced(
    name: str, how: str, *, repeats: bool, change: Callable[[Any], None] = lambda _: None
) -> tuple[PlacedTrace, int]:
    """The trace of two calls of four steps of a pipeline that was changed, and how many ops were looked at."""
    trace = PlacedTrace(target_stack("rtx-4090", "2.13.0", None)[0], repeats=repeats)
    pipe, call = PIPELINES[name]()
    change(pipe)
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
    most = 0.3 if how == "sequential" else 0.49  # the second call is copied too, and of the first what its steps repeat
    assert few < many * most


def test_a_buffer_that_the_first_call_replaced_is_moved_twice_from_then_on() -> None:
    """Group offload knows the tensor that was there, and `Module.to` puts another one: that of SD 3's positions, say."""

    def change(pipe: Any) -> None:
        pipe.transformer.x_embedder.register_buffer("table", torch.empty(4096, device="meta", dtype=torch.bfloat16))

    (copied, few), (whole, many) = (
        traced("flux", "block", repeats=repeats, change=change) for repeats in (True, False)
    )
    assert told(copied) == told(whole)
    assert few < many


@pytest.mark.parametrize("how", ["model", "sequential"])
def test_weights_of_a_layer_that_is_copied_from_another_component_are_its_own(how: str) -> None:
    """Wan 2.2 has two denoisers whose layers are alike."""

    def change(pipe: Any) -> None:
        with torch.device("meta"):
            other = type(pipe.transformer).from_config(pipe.transformer.config).to(torch.bfloat16)
        pipe.register_modules(transformer_2=other)
        pipe.register_to_config(boundary_ratio=0.9)

    (copied, few), (whole, many) = (traced("wan", how, repeats=repeats, change=change) for repeats in (True, False))
    assert told(copied) == told(whole)
    assert {"transformer", "transformer_2"} <= set(copied.owners.values())
    assert few < many * 0.49


@pytest.mark.parametrize("counts", [False, True])
def test_a_table_whose_content_is_known_has_to_hold_what_it_held(counts: bool) -> None:
    """Wan's and LTX's rotary tables are computed as the model is made; a counter of calls is another each time."""

    def count(module: Any, _: Any) -> None:
        module.table.add_(1)

    def change(pipe: Any) -> None:
        pipe.transformer.register_buffer("table", torch.arange(16.0))
        if counts:
            pipe.transformer.register_forward_pre_hook(count)

    found = [traced("wan", "leaf and stream", repeats=repeats, change=change) for repeats in (True, False)]
    (copied, few), (whole, many) = found
    assert told(copied) == told(whole)
    assert (few < many * 0.49) is not counts
