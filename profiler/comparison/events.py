"""Estimate against measurement, event by event: which bytes of the difference at the peak belong to which op.

Blocks of the two streams are paired op by op (both sides watch the same call, so their ops are nearly the same list), and
within an op by order and size. Both sides are then looked at in one moment, that of the higher peak: what is alive on one
side only, or takes another size, is a cause; where the lower side's own peak stands at another moment, that is one more.
The causes add up to the difference between the two replays to the byte. What the replays do not account for (the counters
say otherwise) is unexplained, and a number. Reserved bytes are taken apart in `segments.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from profiler.allocator.caching import OutOfMemory
from profiler.allocator.histories import allocator_of, capacity_of
from profiler.allocator.replay import Replay
from profiler.comparison.segments import Segments, segment_causes
from profiler.data.align import pair
from profiler.data.events import Block, Events, alive_at, place_of
from profiler.data.explanation import Cause, Explanation
from profiler.data.records import Estimate, Measurement
from profiler.data.stack import Stack

MOST_CAUSES = 20


def explain_peaks(
    estimate: Estimate, measurement: Measurement, estimated: Events, measured: Events
) -> Explanation | None:
    """`find_causes` for the two sides of a record; None where a peak is unknown.

    On the CPU, streams hold tensors: what kernels borrowed beyond them, measured in the same run, is a cause by itself.
    """
    peaks = estimate.peak.allocated_bytes, measurement.peak.allocated_bytes
    if peaks[0] is None or peaks[1] is None:
        return None
    if measurement.device_kind != "cpu":
        found = find_causes(estimated, measured, measurement.stack, peaks[0], peaks[1])
        return replace(found, reserved=_explain_reserved(found, estimate, measurement, estimated, measured))
    borrowed = measurement.terms.workspace or 0
    found = find_causes(estimated, measured, measurement.stack, peaks[0], peaks[1] - borrowed)
    cause = Cause(
        bytes=borrowed, module="", op="", term="workspace", why="borrowed by CPU kernels, for which there is no rule"
    )
    return replace(found, difference=peaks[1] - peaks[0], causes=(cause, *found.causes)) if borrowed else found


def _explain_reserved(
    found: Explanation, estimate: Estimate, measurement: Measurement, estimated: Events, measured: Events
) -> Explanation | None:
    """What was `found` of the allocated peaks, of the reserved ones; None where one is unknown."""
    stack, reserved = measurement.stack, (estimate.peak.reserved_bytes, measurement.peak.reserved_bytes)
    if reserved[0] is None or reserved[1] is None:
        return None
    m, e = Segments.of(measured, stack), Segments.of(estimated, stack)
    if estimate.fits and e.peak > reserved[0]:  # the estimate is on this card, which is full
        with suppress(OutOfMemory):  # where plans give way, which the events do not say
            e = Segments.of(estimated, stack, capacity_of(stack, estimate.terms.context))
    # Equal peaks may have segments that are not: they make up for each other.
    causes = _joined(segment_causes(m, e, pair(measured, estimated))) if m.peak != e.peak else []
    difference = reserved[1] - reserved[0]
    return replace(
        found,
        difference=difference,
        causes=tuple(cause for cause in causes if cause.bytes),
        unexplained=difference - (m.peak - e.peak),
    )


def find_causes(
    estimated: Events, measured: Events, stack: Stack, estimated_peak: int, measured_peak: int
) -> Explanation:
    """Take the difference of two allocated peaks (bytes, by the counters) apart by the streams behind them."""
    e, m = (Replay(events, allocator_of(stack)) for events in (estimated, measured))
    partner = pair(measured, estimated)
    back = {b: a for a, b in partner.items()}
    if m.allocator.peak_allocated >= e.allocator.peak_allocated:
        at_m, at_e = m.peak_event, _same_moment(m.peak_event, m, e, partner, back)
    else:
        at_m, at_e = _same_moment(e.peak_event, e, m, back, partner), e.peak_event
    causes = [
        *_differences(m, at_m, e, at_e, partner, back),
        *_elsewhere(m, at_m, "measured"),
        *_elsewhere(e, at_e, "estimated"),
    ]
    difference = measured_peak - estimated_peak
    return Explanation(
        difference=difference,
        unexplained=difference - sum(cause.bytes for cause in causes),
        causes=tuple(_joined(causes)),
        paired=len(partner),
        only_measured=len(measured.blocks) - len(partner),
        only_estimated=len(estimated.blocks) - len(partner),
    )


def _same_moment(at: int, side: Replay, other: Replay, partner: dict[int, int], back: dict[int, int]) -> int:
    """The event of `other` that stands where event `at` does in `side`.

    It is the birth of the last block that has a partner, then the deaths that follow it and have happened in `side` too.
    """
    blocks, others = side.trace.blocks, other.trace
    known = [n for n in side.trace.events[: at + 1] if n >= 0 and n in partner]
    position = others.blocks[partner[known[-1]]].born if known else -1
    while position + 1 < len(others.events) and others.events[position + 1] < 0:
        twin = back.get(~others.events[position + 1])
        if twin is not None and alive_at([blocks[twin]], at):
            break
        position += 1
    return position


def _differences(
    m: Replay, at_m: int, e: Replay, at_e: int, partner: dict[int, int], back: dict[int, int]
) -> Iterable[Cause]:
    """Causes within one moment: measured minus estimated."""
    alive_m, alive_e = _alive(m, at_m), _alive(e, at_e)
    for number, size in alive_m.items():
        block, twin = m.trace.blocks[number], partner.get(number)
        if twin is None:
            yield _cause(m, block, size, "only measured")
        elif twin not in alive_e:
            yield _cause(m, block, size, "alive longer in the measurement")
        elif size != alive_e[twin]:
            same = block.bytes == e.trace.blocks[twin].bytes
            yield _cause(m, block, size - alive_e[twin], "in another block" if same else "of another size")
    for number, size in alive_e.items():
        if number not in back:
            yield _cause(e, e.trace.blocks[number], -size, "only estimated")
        elif back[number] not in alive_m:
            yield _cause(e, e.trace.blocks[number], -size, "alive longer in the estimate")


def _elsewhere(side: Replay, at: int, name: Literal["measured", "estimated"]) -> Iterable[Cause]:
    """The bytes by which this side's own peak is above what is alive on it at event `at`, the moment that is compared.

    If both sides are compared where the measured peak stands (900 MiB), and the estimate, then at 850 MiB, has its own
    peak of 870 MiB at another moment, these are 20 MiB.
    """
    if higher := side.allocator.peak_allocated - sum(_alive(side, at).values()):
        block = side.trace.blocks[side.trace.events[side.peak_event]]
        size = higher if name == "measured" else -higher
        yield replace(_cause(side, block, size, f"as the {name} peak stands at another moment,"), term="")


def _alive(side: Replay, at: int) -> dict[int, int]:
    """Bytes of every block alive after event `at`, by its number."""
    return {block.number: side.sizes[block.number] for block in alive_at(side.trace.blocks, at)}


def _cause(side: Replay, block: Block, size: int, why: str) -> Cause:
    module, op = place_of(side.trace, block)
    return Cause(bytes=size, module=module, op=op, term=block.term, why=why)


def _joined(causes: Iterable[Cause]) -> list[Cause]:
    """One cause for all blocks of an op that differ in one way, largest first; past `MOST_CAUSES` the sum of the others."""
    alike: dict[tuple[str, str, str, str], list[Cause]] = defaultdict(list)
    for cause in causes:
        alike[cause.module, cause.op, cause.term, cause.why].append(cause)
    joined = sorted((_sum(found, found[0]) for found in alike.values()), key=lambda cause: -abs(cause.bytes))
    kept, rest = joined[:MOST_CAUSES], joined[MOST_CAUSES:]
    together = Cause(bytes=0, module="", op="", term="", why=f"{len(rest)} smaller causes together")
    return [*kept, _sum(rest, together)] if rest else kept


def _sum(causes: Sequence[Cause], like: Cause) -> Cause:
    return replace(like, bytes=sum(cause.bytes for cause in causes), blocks=sum(cause.blocks for cause in causes))
