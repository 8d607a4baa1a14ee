"""Runs calls of ops on the card that dry CUDA shows, and beside each the trace: what either allocates, and its result.

Started by scripts/op_sweep under scripts/dry_cuda. It runs on a GPU too, where the calls fit.
"""

import json
import sys
from itertools import groupby
from typing import Any

import torch
from history import stream_of
from op_calls import Call, function, made, tensors
from torch.utils._pytree import tree_leaves

from profiler.machine.probe import probe_stack
from profiler.trace.rules import values
from profiler.trace.trace import Trace

Events = list[int]  # a birth is its bytes, a death is minus the birth's number, from 1


def main() -> None:
    """Calls on standard input, one a line of JSON; for each a line of what `compared` found on standard output."""
    trace = Trace(probe_stack("cuda"))
    with torch.inference_mode(), trace.during("earlier", "activations"):
        products(torch.device("meta"))
    with torch.inference_mode():
        products(torch.device("cuda"))
        for line in sys.stdin:
            print(json.dumps(compared(json.loads(line), trace)), flush=True)
    trace.prices.planner.close()


def products(device: torch.device) -> None:
    """What a process's first products take and keep is no single op's: taken here."""
    x = torch.empty(8, 8, device=device, dtype=torch.bfloat16)
    torch.addmm(x[0], x, x).mm(x)


def compared(call: Call, trace: Trace) -> dict[str, Any]:
    """`card` and `trace`: events and result of either. `skipped`: why there is none. `rule`: whether the op has a rule."""
    routes = trace.routes.copy()
    found: dict[str, Any] = {"rule": function(call) in trace.rules}
    try:
        if depends_on_values(call):
            return found | {"skipped": "what it allocates follows from values"}
        found["trace"] = traced(call, trace)
        if any("closed form" in route for route in trace.routes - routes):
            return found | {"skipped": "no plan for this convolution here"}
        return found | {"card": on_card(call)}
    except torch.OutOfMemoryError:
        return found | {"skipped": "too large for the card"}
    except Exception as error:  # noqa: BLE001 - whatever either says is told
        return found | {"skipped": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}


def depends_on_values(call: Call) -> bool:
    """Whether the op reads values: in dry CUDA nobody wrote any."""
    rule = values.RULES.get(function(call))
    is_masked = any(dtype in ("bool", "uint8") for _, _, dtype, _ in tensors(call[1][1:2]))
    return rule in (values.read, values.nonzero, values.masked_select) or (rule is values.index and is_masked)


def on_card(call: Call) -> dict[str, Any]:
    """What the op does at its second call: the first may load what stays."""
    for _ in range(2):
        args, kwargs = made(call[1], "cuda"), made(call[2], "cuda")
        torch.cuda.memory._record_memory_history(max_entries=100_000, context=None, clear_history=True)
        result = function(call)(*args, **kwargs)
        history = torch.cuda.memory._snapshot()["device_traces"][0]
    return {"events": settled(stream_of(history, "free_requested")), "result": layout(result)}


def traced(call: Call, trace: Trace) -> dict[str, Any]:
    """What the trace notes for the same call."""
    args, kwargs = made(call[1], "meta"), made(call[2], "meta")
    with trace.during("inputs", "inputs"):
        trace.resident([args, kwargs])
    first, begin = len(trace.blocks), len(trace.events)
    with trace.during("cold", "activations"):
        result = function(call)(*args, **kwargs)
        happened = trace.events[begin:]
    events = [trace.blocks[n].bytes if n >= 0 else first - 1 - ~n for n in happened]
    return {"events": settled(events), "result": layout(result)}


def settled(events: Events) -> Events:
    """Deaths without a birth between them in one order: the allocator ends up the same whichever comes first."""
    runs = [list(run) for _, run in groupby(events, key=lambda event: event > 0)]
    return [event for run in runs for event in (run if run[0] > 0 else sorted(run))]


def layout(result: Any) -> list[Any]:
    """Shape, strides and dtype of each tensor in a result."""
    leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    return [[list(t.shape), list(t.stride()), str(t.dtype).removeprefix("torch.")] for t in leaves]


if __name__ == "__main__":
    main()
