"""Why reserved peaks differ, segment by segment. Streams by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from profiler.comparison.events import explain_peaks
from profiler.comparison.segments import Segments, segment_causes
from profiler.data.align import pair
from profiler.data.events import Stream
from profiler.data.memory import Memory
from profiler.data.stack import Stack
from profiler.data.units import MIB
from profiler.files.streams import read_stream
from tests.allocator.test_replay import INPUT, WEIGHTS, cold, stream
from tests.report import records_factory as factory

STREAMS = Path(__file__).parent / "streams"
CARD = Stack(device="cuda", torch="2.13.0", device_total_bytes=1 << 37)
OUTPUT = cold("outputs", 8)
# The second tensor finds room where the first was, as the workspace between them is gone or does not fit there.
SHORT = stream(WEIGHTS, INPUT, cold("activations", 30), ~2, cold("activations", 30), ~3, OUTPUT)


def overlapping() -> Stream:
    """The same blocks, the first of which dies after the second is born."""
    return stream(WEIGHTS, INPUT, cold("activations", 30), cold("activations", 30), ~2, ~3, OUTPUT)


def test_a_segment_names_the_block_that_made_it_and_what_keeps_it() -> None:
    measured, estimated = Segments.of(overlapping(), CARD), Segments.of(SHORT, CARD)
    (cause,) = segment_causes(measured, estimated, pair(overlapping(), SHORT))
    assert (measured.peak - estimated.peak, cause.bytes) == (30 * MIB, 30 * MIB)
    assert (cause.module, cause.op, cause.term) == ("module.3", "aten.op3", "activations")
    assert cause.why == "in a segment for which the estimate has room"
    (back,) = segment_causes(estimated, measured, pair(SHORT, overlapping()))
    assert (back.bytes, back.why) == (-30 * MIB, "in a segment for which the measurement has room")


def test_two_mebibytes_of_a_dry_run_belong_to_one_convolution() -> None:
    """SDXL's decoder at 888x1184, bf16, torch 2.13.0+cu130, an H200's properties; estimated by the closed form.

    `torch.cuda` counted 4,720,689,152 B reserved, the estimate says 4,718,592,000 B; allocated bytes are equal.
    """
    dry, ours = (read_stream(STREAMS / f"sdxl.{side}.json.gz") for side in ("measured", "estimated"))
    measured, estimated = Segments.of(dry, CARD), Segments.of(ours, CARD)
    assert (measured.peak, estimated.peak) == (4_720_689_152, 4_718_592_000)
    (cause,) = segment_causes(measured, estimated, pair(dry, ours))
    assert cause.module == "decoder.mid_block.resnets.0.conv1"
    assert (cause.bytes, cause.why) == (2 * MIB, "in a segment of another size (idle at the peak)")


def test_an_idle_segment_and_one_that_another_block_keeps_say_so() -> None:
    more = stream(WEIGHTS, cold("activations", 40), ~1, cold("activations", 21), cold("activations", 60))
    less = stream(WEIGHTS, cold("activations", 60))
    (first, *_) = segment_causes(Segments.of(more, CARD), Segments.of(less, CARD), {0: 0, 3: 1})
    assert first.why == "in a segment only measured (kept at the peak for activations of module.2 aten.op2)"
    idle = stream(WEIGHTS, cold("activations", 40), ~1, cold("activations", 60))
    (first, *_) = segment_causes(Segments.of(idle, CARD), Segments.of(less, CARD), {0: 0, 2: 1})
    assert first.why == "in a segment only measured (idle at the peak)"


def test_segments_that_are_given_back_are_causes_too() -> None:
    events = (WEIGHTS, cold("activations", 40), ~1, cold("activations", 60))
    kept, emptied = stream(*events), stream(*events, emptied=frozenset({3}))
    causes = list(segment_causes(Segments.of(emptied, CARD), Segments.of(kept, CARD), pair(emptied, kept)))
    assert [(cause.bytes, cause.op, cause.why) for cause in causes] == [
        (-40 * MIB, "aten.op2", "in a segment of another size")
    ]


@pytest.mark.parametrize("more", [0, MIB])
def test_an_explanation_has_reserved_bytes_and_what_is_left_of_them(more: int) -> None:
    low = Memory(allocated_bytes=54 * MIB, reserved_bytes=70 * MIB)
    high = Memory(allocated_bytes=84 * MIB, reserved_bytes=100 * MIB + more)
    estimate = replace(factory.estimate(stack=CARD), peak=low)
    measurement = replace(factory.measurement(stack=CARD), peak=high)
    found = explain_peaks(estimate, measurement, SHORT, overlapping())
    assert found is not None
    assert found.reserved is not None
    assert (found.difference, found.reserved.difference) == (30 * MIB, 30 * MIB + more)
    assert found.reserved.unexplained == more
    assert sum(cause.bytes for cause in found.reserved.causes) + more == found.reserved.difference
    assert found.text.startswith("allocated: measured 30.0 MiB more: ")
    assert "; reserved: measured 3" in found.text
    same = explain_peaks(estimate, replace(measurement, peak=low), SHORT, SHORT)
    assert same is not None
    assert same.text == "equal to the byte"
