"""A placed trace priced for a card: each slot holds what its kernels borrow there, so one trace serves many cards."""

from collections import Counter
from dataclasses import dataclass, replace

from profiler.data.events import Block, Stream
from profiler.data.spans import Mark
from profiler.data.stack import Stack
from profiler.estimation.answer import Traced
from profiler.kernels.prices import Prices
from profiler.trace.placed import PlacedTrace


@dataclass(frozen=True, kw_only=True)
class Priced(Stream):
    """The stream on a card, with the trace's marks and owners as they are there."""

    marks: list[Mark]
    owners: dict[int, str]


def priced(trace: PlacedTrace, found: Traced, stack: Stack) -> tuple[Priced, Traced]:
    """The stream of a trace with `slots` on `stack`, and what was `found`, with what the prices say of kernels there.

    Raises Elsewhere where this card takes another path than the one that was traced, NoKernelError where no attention
    kernel can run.
    """
    routes: Counter[str] = Counter()
    prices = Prices(stack, routes)
    blocks, events = list[Block](), list[int]()
    taken: list[list[int]] = []  # the blocks that stand for each of the trace's
    at: list[int] = []  # how many events there are before each of the trace's

    def release(number: int) -> None:
        blocks[number].died = len(events)
        events.append(~number)

    try:
        for event in trace.events:
            at.append(len(events))
            if event < 0:
                for number in reversed(taken[~event]):
                    release(number)
                continue
            block = trace.blocks[event]
            taken.append([])
            for size in prices.sizes(block.price) if block.price else (block.bytes,):
                if not size:
                    release(taken[-1].pop())
                    continue
                new = replace(block, number=len(blocks), bytes=size, born=len(events), died=None)
                new.shape = (size,) if block.price else block.shape
                blocks.append(new)
                events.append(new.number)
                taken[-1].append(new.number)
    finally:
        prices.planner.close()
    at.append(len(events))
    stream = Priced(
        *(blocks, events, trace.ops, {at[event] for event in trace.cache_emptied_at}),
        marks=[Mark(mark.name, at[mark.start], at[mark.stop]) for mark in trace.marks],
        owners={number: owner for old, owner in trace.owners.items() for number in taken[old]},
    )
    sources, unplanned = prices.planner.sources, prices.unplanned_bytes
    return stream, replace(found, events=stream, routes=routes, sources=sources, unplanned_bytes=unplanned)
