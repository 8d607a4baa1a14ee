"""A memory snapshot as `torch.cuda.memory._dump_snapshot` pickles it, for pytorch.org/memory_viz.

The viewer reads pickle by itself, up to protocol 4. Frames are the op, then the modules around it, innermost first.
"""

import pickle
from operator import itemgetter
from typing import Any

from profiler.allocator.caching import Piece
from profiler.allocator.histories import allocator_of
from profiler.allocator.plain import PlainAllocator
from profiler.data.events import Block
from profiler.data.units import by, round_up
from profiler.diagnosis.profile import Profile, ancestors
from profiler.errors import UserError


def write(profile: Profile) -> bytes:
    """The pickle. Raises UserError on the CPU, which has no segments."""
    return pickle.dumps(snapshot(profile), protocol=4)


def snapshot(profile: Profile) -> dict[str, Any]:
    """Segments as they stand at the end, and every event that led there."""
    allocator = allocator_of(profile.stack)
    if isinstance(allocator, PlainAllocator):
        raise UserError("export snapshot: the CPU allocator has no segments; chrome, csv and stacks work")
    trace: list[dict[str, Any]] = []
    live: dict[int, Piece] = {}
    segments: dict[int, int] = {}

    def note(action: str, address: int, size: int, frames: list[dict[str, Any]]) -> None:
        event = {"action": action, "addr": address, "size": size, "stream": 0, "time_us": len(trace), "frames": frames}
        trace.append(event)

    for event, block, birth, _ in profile.steps():
        if event in profile.cache_emptied_at:
            allocator.empty_cache()
            for start in _unused(segments, live):
                note("segment_free", start, segments.pop(start), [])
        stack = frames(profile, block)
        if not birth:
            piece = live.pop(block.number)
            for action in ("free_requested", "free_completed"):
                note(action, piece.address, piece.size, stack)
            allocator.free(piece)
            continue
        before = allocator.reserved
        piece = live[block.number] = allocator.malloc(block.bytes)
        if grown := allocator.reserved - before:
            start = piece.address
            if (
                piece.unit
            ):  # pages are mapped up to the first boundary behind the block: nothing is unmapped without a limit
                start = piece.base + round_up(start + piece.size - piece.base, piece.unit) - grown
            note("segment_map" if piece.unit else "segment_alloc", start, grown, stack)
            ends = {address + length: address for address, length in segments.items()} if piece.unit else {}
            begin = ends.get(start, start)  # where pages lie behind others, those are one segment
            segments[begin] = segments.get(begin, 0) + grown
        note("alloc", piece.address, piece.size, stack)
    pieces = sorted(live.items(), key=lambda item: item[1].address)
    return {
        "segments": [_segment(profile, start, size, pieces) for start, size in sorted(segments.items())],
        "device_traces": [trace],
        "external_annotations": [],
        "allocator_settings": {},
    }


def frames(profile: Profile, block: Block) -> list[dict[str, Any]]:
    """The op and the modules around it, as the viewer prints them: file:line:name."""
    module, op = profile.module(block), profile.op(block)
    kinds = profile.usage.classes
    found = [{"name": f"{op} {by(block.shape)} {block.dtype}", "filename": module or "the stage", "line": 0}]
    return found + [
        {"name": kinds.get(path, ""), "filename": path or "the stage", "line": 0} for path in ancestors(module)
    ]


def _unused(segments: dict[int, int], live: dict[int, Piece]) -> list[int]:
    """Segments that hold no block. An expandable segment also gives back single pages; that is not shown."""
    used = {start for start, size in segments.items() for p in live.values() if start <= p.address < start + size}
    return [start for start in segments if start not in used]


def _segment(profile: Profile, start: int, size: int, pieces: list[tuple[int, Piece]]) -> dict[str, Any]:
    """One segment with its blocks in order: those in use, and the gaps between them."""
    inside = [(profile.blocks[number], piece) for number, piece in pieces if start <= piece.address < start + size]
    used = [
        _block(piece.address, piece.size, "active_allocated", block.bytes, frames(profile, block))
        for block, piece in inside
    ]
    ends = [start, *(piece.address + piece.size for _, piece in inside)]
    begins = [*(piece.address for _, piece in inside), start + size]
    spans = zip(ends, begins, strict=True)
    gaps = [_block(end, begin - end, "inactive", begin - end, []) for end, begin in spans if begin > end]
    return {
        "device": 0,
        "address": start,
        "total_size": size,
        "allocated_size": sum(block["size"] for block in used),
        "active_size": sum(block["size"] for block in used),
        "requested_size": sum(block["requested_size"] for block in used),
        "stream": 0,
        "segment_type": "large" if size > 2 << 20 else "small",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": [],
        "blocks": sorted(used + gaps, key=itemgetter("address")),
    }


def _block(address: int, size: int, state: str, requested: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"address": address, "size": size, "requested_size": requested, "state": state, "frames": found}
