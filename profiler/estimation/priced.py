"""A placed trace priced for a card: each slot holds what its kernels borrow there, so one trace serves many cards."""

from collections import Counter
from dataclasses import dataclass, replace

from profiler.data.events import Stream
from profiler.data.spans import Mark
from profiler.data.stack import Stack
from profiler.estimation.answer import Traced
from profiler.estimation.slots import Slots
from profiler.kernels.prices import Prices
from profiler.trace.placed import PlacedTrace


@dataclass(frozen=True, kw_only=True)
class Priced(Stream):
    """The stream on a card, with the trace's marks and owners as they are there.

    `held` are the blocks that stand for each of the trace's, `at` how many events there are before each of its events, and
    `kernels` what runs in an op that had to be priced.
    """

    marks: list[Mark]
    owners: dict[int, str]
    held: list[list[int]]
    at: list[int]
    kernels: dict[int, str]


def priced(trace: PlacedTrace, found: Traced, stack: Stack) -> tuple[Priced, Traced]:
    """The stream of a trace with `slots` on `stack`, and what was `found`, with what the prices say of kernels there.

    Raises Elsewhere where this card takes another path than the one that was traced, NoKernelError where no attention
    kernel can run.
    """
    routes: Counter[str] = Counter()
    prices = Prices(stack, routes)
    slots = Slots(prices)
    held, at, kernels = list[list[int]](), list[int](), dict[int, str]()
    try:
        for event in trace.events:
            at.append(len(slots.events))
            if event < 0:
                slots.give_back(held[~event])
                continue
            block = trace.blocks[event]
            before = routes.copy() if block.price else None
            labels = block.dtype, block.term, block.phase
            held.append(
                slots.take(block.op, block.bytes, block.shape, *labels, block.price, block.queue, block.awaited)
            )
            if before is not None:  # comparing them for every block would take longer than taking it
                kernels |= dict.fromkeys([block.op], *(routes - before)) if before != routes else {}
    finally:
        prices.planner.close()
    at.append(len(slots.events))
    stream = Priced(
        *(slots.blocks, slots.events, trace.ops, {at[event] for event in trace.cache_emptied_at}),
        marks=[Mark(mark.name, at[mark.start], at[mark.stop]) for mark in trace.marks],
        owners={number: owner for old, owner in trace.owners.items() for number in held[old]},
        held=held,
        at=at,
        kernels=kernels,
    )
    sources, unplanned = prices.planner.sources, prices.unplanned_bytes
    return stream, replace(found, events=stream, routes=routes, sources=sources, unplanned_bytes=unplanned)
