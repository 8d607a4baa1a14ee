"""A stream replayed: what stands at the peak, what a later call takes, and what there is no room for. Streams by hand."""

from collections.abc import Hashable
from pathlib import Path

import pytest

from profiler.allocator.caching import CachingAllocator, OutOfMemory
from profiler.allocator.replay import Replay
from profiler.data.events import Block, Stream
from profiler.data.spans import Span
from profiler.data.units import MIB
from profiler.files.streams import read_stream

MEASURED = Path(__file__).parents[2] / "results/reference/h200-torch2.11.0+cu130-diffusers0.42.1/events"


def stream(*events: tuple[str, int, str] | int, emptied: frozenset[int] = frozenset()) -> Stream:
    """`(term, MiB, phase)` is a birth, of one op each; `~n` the death of block n."""
    blocks: list[Block] = []
    numbers: list[int] = []
    for at, event in enumerate(events):
        if isinstance(event, int):
            blocks[~event].died = at
            numbers.append(event)
            continue
        term, size, phase = event
        number = len(blocks)
        blocks.append(Block(number, size * MIB, number, (size,), "byte", term, phase, at))
        numbers.append(number)
    return Stream(blocks, numbers, [(f"module.{n}", f"aten.op{n}") for n in range(len(blocks))], set(emptied))


WEIGHTS, INPUT = ("weights", 20, "model"), ("inputs", 4, "inputs")


def plan_of(block: Block) -> Hashable | None:
    """Convolutions of one workspace have one plan here."""
    return block.bytes if block.term == "workspace" else None


def cold(term: str, size: int) -> tuple[str, int, str]:
    return term, size, "cold"


def test_the_peak_its_op_and_what_stands_there() -> None:
    found = Replay(stream(WEIGHTS, INPUT, cold("activations", 30), cold("workspace", 6), ~3, ~2, cold("outputs", 8)),
                   CachingAllocator())  # fmt: skip
    assert (found.baseline.allocated_bytes, found.peak.allocated_bytes) == (24 * MIB, 60 * MIB)
    assert found.peak_at().op == "aten.op3"
    assert [block.number for block in found.alive()] == [2, 0, 3, 1]
    assert found.terms() == {
        "weights": 20 * MIB, "inputs": 4 * MIB, "outputs": 0, "activations": 30 * MIB, "workspace": 6 * MIB
    }  # fmt: skip


def test_a_phase_that_only_frees_has_the_level_at_its_start() -> None:
    """Post-processing of latents is such a phase: it had the peak of the loop before it."""
    spans = [Span("later steps", 1, 2, 6), Span("post-process", 1, 6, 7)]
    story = stream(WEIGHTS, INPUT, cold("activations", 30), cold("activations", 6), ~3, cold("activations", 2), ~2)
    found = Replay(story, CachingAllocator(), spans=spans)
    assert [peak.allocated_bytes for peak, _ in found.phases.values()] == [60 * MIB, 56 * MIB]


def test_a_later_call_begins_without_the_answer_of_the_one_before_and_with_what_that_kept() -> None:
    kept = cold("workspace", 16)  # no death: cuBLAS's block
    found = Replay(stream(WEIGHTS, kept, cold("activations", 30), ~2, cold("outputs", 10)), CachingAllocator())
    assert found.peak.allocated_bytes == 66 * MIB
    assert found.again().allocated_bytes == 66 * MIB
    assert found.again().allocated_bytes == 66 * MIB


def test_an_emptied_cache_forgets_what_came_before() -> None:
    events = (WEIGHTS, ("activations", 40, "earlier"), ~1, INPUT, cold("activations", 10))
    kept, emptied = (Replay(stream(*events, emptied=at), CachingAllocator()) for at in (frozenset(), frozenset({3})))
    assert (kept.peak.reserved_bytes, emptied.peak.reserved_bytes) == (60 * MIB, 40 * MIB)


def test_a_cache_that_the_first_call_empties_is_not_emptied_by_later_ones() -> None:
    events = (WEIGHTS, cold("workspace", 40), ~1, cold("activations", 10), ~2)  # plans are timed once
    found = Replay(stream(*events, emptied=frozenset({3})), CachingAllocator())
    assert (found.peak.reserved_bytes, found.allocator.reserved) == (60 * MIB, 30 * MIB)
    assert found.again().reserved_bytes == 70 * MIB
    assert found.allocator.reserved == 70 * MIB


def test_a_smaller_call_before_leaves_its_segments() -> None:
    events = (WEIGHTS, cold("activations", 40), ~1, cold("outputs", 10))
    peaks = [Replay(stream(*events), CachingAllocator(), earlier=earlier).peak for earlier in ((), (2,), (4, 2))]
    assert {peak.allocated_bytes for peak in peaks} == {60 * MIB}
    assert [peak.reserved_bytes for peak in peaks] == [60 * MIB, 80 * MIB, 90 * MIB]


def test_of_two_equal_free_blocks_the_one_at_the_lower_address_is_taken() -> None:
    """The last request fits into the segment of 60 MiB only where the small one before it went elsewhere."""
    events = (WEIGHTS, cold("activations", 40), cold("activations", 60), ~2, cold("activations", 40),
              cold("activations", 20), ~1, ~3, cold("activations", 20), ~4, cold("outputs", 60))  # fmt: skip
    rising, falling = (Replay(stream(*events), CachingAllocator(falling=falls)) for falls in (False, True))
    assert (rising.peak.reserved_bytes, falling.peak.reserved_bytes) == (120 * MIB, 180 * MIB)


def test_the_segments_of_a_real_h200_fall() -> None:
    """CogVideoX decode as measured (2026-11-26, torch 2.11.0, driver 580.159.04): its stream reserves what it did there."""
    found = read_stream(next(MEASURED.glob("cogvideox-5b_decode_*.measured.json.gz")))
    rising, falling = (Replay(found, CachingAllocator(falling=falls)) for falls in (False, True))
    assert falling.peak.reserved_bytes == 25_404_899_328
    assert falling.again().reserved_bytes == 26_820_476_928
    assert rising.peak.reserved_bytes == 23_989_321_728


def test_only_workspace_can_be_done_without() -> None:
    events = stream(WEIGHTS, cold("activations", 10), cold("workspace", 30), ~2, cold("outputs", 10))
    found = Replay(events, CachingAllocator(capacity=40 * MIB), plan_of=plan_of)
    assert (found.squeezed, found.peak.allocated_bytes) == ({2}, 40 * MIB)
    assert [block.number for block in found.alive()] == [0, 1, 3]
    with pytest.raises(OutOfMemory):
        Replay(events, CachingAllocator(capacity=40 * MIB))
    with pytest.raises(OutOfMemory):
        Replay(events, CachingAllocator(capacity=30 * MIB), plan_of=plan_of)
