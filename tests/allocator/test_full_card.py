"""Calls one after another on a card that is nearly full: how many get through, and what they reserve.

The streams are estimates for an H200 with cuDNN 9.20's own plans. The expected figures are those of dry CUDA on a card with
so much memory (torch 2.13.0+cu130, 2026-11-26), whose context takes 512 MiB: `scripts/dry_cuda --memory-mib 2632 latentmeter
measure sdxl --height 888 --width 1184 --dtype bf16 --warm-calls 5`, and `wan2.1-t2v-1.3b --frames 33 --height 480 --width
848 --dtype bf16`.
"""

from collections.abc import Hashable
from pathlib import Path

import pytest

from profiler.allocator.caching import CachingAllocator
from profiler.allocator.expandable import ExpandableAllocator
from profiler.allocator.histories import Calls
from profiler.allocator.settings import AllocatorSettings
from profiler.data.events import Block, Stream
from profiler.data.units import MIB
from profiler.files.streams import read_stream

STREAMS = Path(__file__).parent / "streams"
SDXL, WAN = "sdxl_decode_1x888x1184_b1_bf16", "wan2.1-t2v-1.3b_decode_33x480x848_b1_bf16"
CONTEXT = 512
EVERY = "every call"


def of(name: str) -> Stream:
    return read_stream(STREAMS / f"{name}.json.gz")


def calls_on(name: str, card_mib: int) -> Calls:
    """The calls of a stream, of whose plans two of one size are for the same convolution."""
    found = of(name)

    def plan_of(block: Block) -> Hashable | None:
        planned = block.term == "workspace" and block.op >= 0 and found.ops[block.op][1] == "aten.convolution.default"
        return block.bytes if planned else None

    return Calls(found, CachingAllocator((card_mib - CONTEXT) * MIB, falling=False), plan_of)


@pytest.mark.parametrize(
    ("name", "card_mib", "through"),
    [
        (SDXL, 2632, 1), (SDXL, 2700, 1), (SDXL, 2800, 2), (SDXL, 3000, 2), (SDXL, 3200, EVERY), (SDXL, 3400, EVERY),
        (WAN, 6562, 1), (WAN, 6600, 1), (WAN, 6640, 1), (WAN, 6660, 1), (WAN, 6680, EVERY), (WAN, 6700, EVERY),
        (WAN, 6720, 0), (WAN, 6900, 0), (WAN, 7080, 0), (WAN, 7100, EVERY), (WAN, 7400, EVERY),
    ],
)  # fmt: skip
def test_as_many_calls_get_through_as_on_the_card(name: str, card_mib: int, through: int | str) -> None:
    found = calls_on(name, card_mib)
    assert (found.refused is None) == (through == EVERY)
    if through == EVERY:
        assert found.repeats
        assert len(found.peaks) <= 4
    else:
        assert len(found.peaks) == through


@pytest.mark.parametrize(
    ("name", "card_mib", "reserved_mib", "retries"),
    [(SDXL, 4000, (3426, 3426), [1, 0]), (WAN, 7100, (6574, 6576), [1, 0]), (WAN, 6700, (6152, 6154), None),
     (SDXL, 3200, (2654, 2516), None)],
)  # fmt: skip
def test_a_full_card_reserves_what_it_has(
    name: str, card_mib: int, reserved_mib: tuple[int, int], retries: list[int] | None
) -> None:
    """Segments are given back as often as there, unless a plan had to give way: then each plan tried counts there."""
    found = calls_on(name, card_mib)
    assert tuple(peak.reserved_bytes for peak in found.peaks[:2]) == tuple(mib * MIB for mib in reserved_mib)
    if retries:  # no plan had to give way
        assert found.retries[:2] == retries
        assert not found.first.squeezed
    else:
        assert found.first.squeezed


def test_a_workspace_that_is_no_plan_of_cudnn_cannot_give_way() -> None:
    found = Calls(of(SDXL), CachingAllocator((3200 - CONTEXT) * MIB, falling=False), lambda _: None)
    assert found.refused is not None
    assert not found.peaks


def test_with_expandable_segments_the_state_repeats_too() -> None:
    settings = AllocatorSettings(expandable=True)
    roomy = Calls(of(SDXL), ExpandableAllocator(141 << 30, settings=settings), lambda _: None)
    assert roomy.reserved is not None
    found = Calls(of(SDXL), ExpandableAllocator(roomy.reserved, roomy.reserved, settings=settings), lambda _: None)
    assert roomy.repeats
    assert found.repeats
    assert not any(found.retries)
