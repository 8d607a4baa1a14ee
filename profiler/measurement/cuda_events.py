"""The measured event stream on CUDA: torch's own memory history of the cold call, attributed by the watched one.

The history costs host memory only: no block, no context, no peak moves. It runs through the whole measurement, so the cold
call is recorded as it ran, undisturbed. The watched call, which runs later, knows op and module of each of its own
allocations by position in the same history; the cold call's are laid beside those by order and size. What only the cold
call took (cuBLAS's workspace) belongs to the op around it.
"""

from bisect import bisect_right
from typing import Any

import torch

from profiler.data.align import align
from profiler.data.events import Block, Stream
from profiler.measurement.meter import OpPeak
from profiler.trace.observer import Observer

MOST_EVENTS = 4_000_000  # of all calls together; beyond it torch forgets the oldest
BIRTH, DEATH = "alloc", "free_requested"  # `free_requested` is when `allocated` falls
GIVEN_BACK = ("segment_free", "segment_unmap")


def begin() -> None:
    """Start recording. Stack traces are what costs time, so none is kept."""
    torch.cuda.memory._record_memory_history(max_entries=MOST_EVENTS, context=None)


def end() -> tuple[list[dict[str, Any]], set[int]]:
    """Stop; every birth and death so far on the current device, and the positions before which segments were given back.

    Nothing if torch had to forget some.
    """
    trace: list[dict[str, Any]] = torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]
    torch.cuda.memory._record_memory_history(enabled=None)
    kept: list[dict[str, Any]] = []
    emptied: set[int] = set()
    for entry in trace if len(trace) < MOST_EVENTS else []:
        if entry["action"] in (BIRTH, DEATH):
            kept.append(entry)
        elif entry["action"] in GIVEN_BACK:
            emptied.add(len(kept))
    return kept, emptied


def position(stats: dict[str, int]) -> int:
    """How many births and deaths the allocator has counted."""
    return stats["allocation.all.allocated"] + stats["allocation.all.freed"]


def stream(
    recorded: tuple[list[dict[str, Any]], set[int]], phases: dict[str, int], watch: Observer, peaks: list[OpPeak]
) -> Stream:
    """Births and deaths from the first weight to the end of the cold call, of what `end` gave.

    `phases` are the positions where each phase begins; those of the observed ops stand in `peaks`.
    """
    trace, emptied = recorded
    end_of_cold = phases.get("warm", phases["attribution"])
    blocks = _blocks(trace[:end_of_cold], phases)
    watched = _blocks(trace, phases, start=phases["attribution"])
    _attribute_watched(watched, watch, peaks)
    cold = [block for block in blocks if block.phase == "cold"]
    pairs = dict(align([b.bytes for b in cold], [b.bytes for b in watched]))
    op = -1
    for number, block in enumerate(cold):
        if number in pairs:
            twin = watched[pairs[number]]
            op, block.term, block.shape, block.dtype = twin.op, twin.term, twin.shape, twin.dtype
        block.op = op
    moments = [(block.born, block.number) for block in blocks]
    moments += [(block.died, ~block.number) for block in blocks if block.died is not None]
    events = [number for _, number in sorted(moments)]
    return Stream(blocks, events, list(watch.ops), {at for at in emptied if at < end_of_cold})


def _blocks(trace: list[dict[str, Any]], phases: dict[str, int], start: int = 0) -> list[Block]:
    """What was born in `trace` from position `start` on; `born` and `died` are positions in it."""
    names = sorted(phases, key=lambda name: phases[name])
    starts = [phases[name] for name in names]
    terms = {"model": "weights", "inputs": "inputs"}
    blocks: list[Block] = []
    live: dict[int, Block] = {}
    for at in range(start, len(trace)):
        address, size = trace[at]["addr"], trace[at]["size"]
        if trace[at]["action"] == BIRTH:
            phase = names[bisect_right(starts, at) - 1]
            blocks.append(Block(len(blocks), size, -1, (size,), "byte", terms.get(phase, "workspace"), phase, at))
            live[address] = blocks[-1]
        elif address in live:
            live.pop(address).died = at
    return blocks


def _attribute_watched(watched: list[Block], watch: Observer, peaks: list[OpPeak]) -> None:
    """Give each block of the watched call its op, and its tensor's shape and term where it holds one.

    What was born and is gone within an op was borrowed; of the rest, a tensor is in the block of its size.
    """
    ends = [peak.position for peak in peaks]
    tensors: dict[int, list[Block]] = {}
    for tensor in watch.blocks:
        tensors.setdefault(tensor.op, []).append(tensor)
    for block in watched:
        peak = peaks[min(bisect_right(ends, block.born), len(peaks) - 1)]
        block.op = peak.op
        if block.died is not None and block.died < peak.position:
            continue
        made = tensors.get(peak.op, [])
        found = next((number for number, tensor in enumerate(made) if tensor.bytes == block.bytes), None)
        if found is not None:
            tensor = made.pop(found)
            block.shape, block.dtype, block.term = tensor.shape, tensor.dtype, tensor.term
