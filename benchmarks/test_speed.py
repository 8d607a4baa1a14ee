"""How fast an estimate is: `python -m pytest benchmarks` (pytest-benchmark), on a quiet machine. Not among CI's tests.

Each group holds the ways to one answer; the table shows their ratios in parentheses. The answers are the same to the byte
(tests/trace/test_repeated_calls.py, tests/estimation/test_recording.py).
"""

import json
from functools import partial
from typing import Any

import pytest

from profiler.data.records import CallEstimate
from profiler.data.workload import MemoryOptions
from profiler.estimation.answer import Traced, answer
from profiler.estimation.estimator import trace_stage
from profiler.estimation.recorder import Recorder
from profiler.estimation.recording import grid_of, replay
from profiler.estimation.size_functions import size_of
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.find import find_model
from profiler.trace.trace import Trace

STACK = assumed_stack(find_gpu("h200"))
CASES = [
    ("wan2.1-t2v-14b", "decode", False),
    ("wan2.1-t2v-14b", "denoise", False),
    ("qwen-image", "denoise", False),
    ("flux.1-dev", "denoise", False),
    ("sdxl", "denoise", False),
    ("wan2.1-t2v-14b", "decode", True),
    ("hunyuan-video", "decode", True),
]


@pytest.mark.parametrize("way", ["traced plainly", "traced", "replayed"])
@pytest.mark.parametrize(("model", "stage", "tiled"), CASES)
def test_estimate(benchmark: Any, model: str, stage: Any, tiled: bool, way: str) -> None:
    """A whole estimate after imports, at the published size."""
    spec = find_model(model)
    workload = spec.workload(stage, options=MemoryOptions(tiling=tiled))
    benchmark.group = f"{model} {stage}{' tiled' if tiled else ''}"

    def traced(repeats: bool) -> Traced:
        watched = trace_stage(workload, spec, STACK, partial(Trace, repeats=repeats))
        return Traced(watched.trace, watched.trace.routes, watched.run.options, watched.output_shapes)

    ways: dict[str, Any] = {"traced plainly": partial(traced, False), "traced": partial(traced, True)}
    if way == "replayed":
        size = size_of(workload)
        made = "the number of tiles depends on the size" if tiled else Recorder(workload, spec, STACK).recordings()
        if isinstance(made, str):
            pytest.skip(f"not recorded: {made}")
        text = json.dumps(next(one for one in made if grid_of(one).holds(size)))
        ways[way] = lambda: replay(json.loads(text), size, STACK)

    def answered() -> CallEstimate:
        found = ways[way]()
        return answer(found, found.on(STACK, None), started=0)

    found = benchmark.pedantic(answered, rounds=3, warmup_rounds=1)
    benchmark.extra_info["events"] = found.events
