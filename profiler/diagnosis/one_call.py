"""One call of the two that a generation was traced for, as a profile by itself: what stands before it, and what it does."""

from collections.abc import Mapping
from dataclasses import replace

from profiler.data.events import Block
from profiler.data.memory import SECOND, Memory
from profiler.data.spans import Span
from profiler.diagnosis.profile import Profile, Usage
from profiler.estimation.priced import Priced

PHASES = {"cold": "first call", "warm": "cold"}  # as the second call tells them


def one_call(both: Profile, call: int, peaks: Mapping[Span, tuple[Memory, int]], events: range, ops: range) -> Profile:
    """The profile of `call`, 1 or 2, out of `both` in one stream, of which it is these `events` and `ops`.

    `peaks` are those of all phases, each with its event. A block that outlives the call dies in it no more.
    """
    start, stop = events.start, events.stop
    kept = [b for b in both.blocks if b.born < stop and (b.born >= start or b.died is None or b.died >= start)]
    number = {block.number: new for new, block in enumerate(kept)}
    at, stream = [0], list[int]()
    for event in both.events[:stop]:
        if max(event, ~event) in number:
            stream.append(number[event] if event >= 0 else ~number[~event])
        at.append(len(stream))

    def as_kept(block: Block) -> Block:
        died = None if block.died is None or block.died >= stop else at[block.died]
        told = replace(block, number=number[block.number], born=at[block.born], died=died)
        if call == SECOND:
            is_dropped = block.phase == "warm" and block.died is not None and died is None  # by who called
            told.term = "outputs" if is_dropped else block.term
            told.phase = PHASES.get(block.phase, block.phase)
        return told

    found = {span: peak for span, peak in peaks.items() if span.call == call}
    return replace(
        both,
        blocks=[as_kept(block) for block in kept],
        events=stream,
        sizes=[both.sizes[block.number] for block in kept],
        peak_event=at[max(found.values(), key=lambda peak: peak[0].allocated_bytes or 0)[1]],
        reserved=max(peak.reserved_bytes or 0 for peak, _ in found.values()),
        cache_emptied_at={at[event] for event in both.cache_emptied_at if event < stop},
        usage=_of(both.usage, number, ops),
        phases={
            replace(span, start=at[span.start], stop=at[min(span.stop, stop)]): at[event]
            for span, (_, event) in found.items()
        },
    )


def usage_on(stream: Priced, usage: Usage) -> Usage:
    """What was noted in a trace with slots, with its blocks as they are in the stream on a card, and its kernels too."""
    told = stream.kernels
    kernels = {
        op: replace(kernel, name=next((told[at] for at in range(op, kernel.end) if at in told), kernel.name))
        for op, kernel in usage.kernels.items()
    }
    number = {old: new[0] for old, new in enumerate(stream.held) if new}  # several are the buffers of one kernel
    return _of(replace(usage, kernels=kernels), number, range(len(stream.ops)))


def _of(usage: Usage, number: Mapping[int, int], ops: range) -> Usage:
    """What was noted in `ops`, with blocks by their new `number`."""
    first = sum(call.first < ops.start for call in usage.calls)
    calls = [call for call in usage.calls[first:] if call.first < ops.stop]
    return replace(
        usage,
        reads={number[old]: [op for op in reads if op in ops] for old, reads in usage.reads.items() if old in number},
        calls=[replace(call, parent=max(-1, call.parent - first)) for call in calls],
        call_of={op: max(-1, call - first) for op, call in usage.call_of.items() if op in ops},
        kernels={op: kernel for op, kernel in usage.kernels.items() if op in ops},
        freed_in={number[old]: max(-1, call - first) for old, call in usage.freed_in.items() if old in number},
        owners={number[old]: owner for old, owner in usage.owners.items() if old in number},
        held={number[old]: line for old, line in usage.held.items() if old in number},
    )
