"""Why a block is alive at the peak: who reads it next, or who holds it though nobody does."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from profiler.data.events import Block, described
from profiler.data.memory import AliveTensor
from profiler.data.units import format_bytes
from profiler.diagnosis.profile import Profile

SMALL = 0.02  # of the peak: modules, and lines of the timeline, below it are left out
BORROWED = "borrowed by this op"
SPENT = "kept for the next call, not read again"
RESIDENT = "stands before the call"
PLACED = "brought by the placement"
KEPT = "kept from its first use"
Why = Literal[
    "weights", "inputs", "workspace", "written", "read", "residual", "cache", "waits", "output", "held", "unread"
]


@dataclass(frozen=True, kw_only=True)
class Alive(AliveTensor):
    """A block alive at the peak, and the reason: `why` in a word, `because` in words."""

    why: Why
    because: str


def alive_at_peak(profile: Profile) -> list[Alive]:
    """Every block alive at the peak, largest first."""
    caches = find_cache_makers(profile)
    return [as_alive(profile, block, *reason_of(profile, block, caches)) for block in profile.alive]


def as_alive(profile: Profile, block: Block, why: Why, because: str) -> Alive:
    """A block with the reason why it is alive."""
    found = described(block, profile.sizes[block.number], profile.module(block), profile.op(block))
    return Alive(**vars(found), why=why, because=because)


def group_alike(found: Iterable[Alive]) -> list[list[Alive]]:
    """Blocks of one size, shape and maker that are alive for one reason, together; the group with most bytes first."""
    alike: dict[tuple[object, ...], list[Alive]] = {}
    for item in found:
        alike.setdefault((item.bytes, item.shape, item.dtype, item.op, item.why), []).append(item)
    return sorted(alike.values(), key=lambda group: -sum(item.bytes for item in group))


def count_and_size(group: list[Alive]) -> str:
    """`8 x 292.5 MiB`; the count is left out for one."""
    size = format_bytes(group[0].bytes)
    return f"{len(group)} x {size}" if len(group) > 1 else size


def made_in(group: list[Alive]) -> str:
    """The first one's module and op, and how many other modules made one too."""
    first, others = group[0], len({item.module for item in group}) - 1
    also = f" and {others} more module{'s' if others > 1 else ''}" if others else ""
    return f"{first.module or 'the stage'} ({short_name(first.op)}){also}"


def reason_of(profile: Profile, block: Block, caches: set[tuple[str, str]]) -> tuple[Why, str]:
    """Why `block` is alive at the peak, in a word and in words. `caches` as `find_cache_makers` gives them."""
    if block.term == "weights":
        return "weights", RESIDENT if block.phase != "cold" else PLACED
    if block.term == "inputs":
        return "inputs", RESIDENT
    if block.term == "workspace":
        return "workspace", BORROWED if block.op == profile.peak_op and block.phase == "cold" else KEPT
    reads = profile.usage.reads.get(block.number, [])
    following = next((op for op in reads if op > profile.peak_op), None)
    later = name_op(profile, following)
    if (profile.module(block), profile.op(block)) in caches:
        return "cache", f"kept for the next call: read by {later}" if later else SPENT
    if block.op == profile.peak_op:
        return "written", "made by this op"
    if profile.peak_op in reads:
        return "read", "read by this op"
    if following is None:
        if block.term == "outputs":
            return "output", "part of the answer"
        call = profile.usage.freed_in.get(block.number, -1)
        holder = (profile.usage.calls[call].path if call >= 0 else "") or "the stage"
        if not reads:
            return "unread", f"never read; held by {holder}"
        return "held", f"last read by {name_op(profile, reads[-1])}; held by {holder}"
    adds = short_name(profile.ops[following][1]) in ("add", "add_")
    if adds and reads[0] < profile.peak_op and _is_branch_of(profile, following):
        return "residual", f"added by {later}"
    return "waits", f"used next by {later}"


def find_cache_makers(profile: Profile) -> set[tuple[str, str]]:
    """(module, op) of blocks that one call of a module leaves for a later call of the same module: feature caches."""
    found = set()
    for number, reads in profile.usage.reads.items():
        block = profile.blocks[number]
        place = (profile.module(block), profile.op(block))
        if block.phase != "cold" or place in found:
            continue
        made = calls_around(profile, block.op)
        readers = (calls_around(profile, op) for op in reads)
        if any(made.get(path, call) != call for around in readers for path, call in around.items()):
            found.add(place)
    return found


def calls_around(profile: Profile, op: int) -> dict[str, int]:
    """The calls around an op, innermost first: module path to call number."""
    stack: dict[str, int] = {}
    number = profile.usage.call_of.get(op, -1)
    while number >= 0:
        call = profile.usage.calls[number]
        stack.setdefault(call.path, number)
        number = call.parent
    return stack


def name_op(profile: Profile, op: int | None) -> str:
    if op is None:
        return ""
    module, name = profile.ops[op]
    return f"{module or 'the stage'} ({short_name(name)})"


def _is_branch_of(profile: Profile, op: int) -> bool:
    """Whether the peak stands in the module of `op` or below it: a branch whose result that op adds."""
    module, at = profile.ops[op][0], profile.ops[profile.peak_op][0]
    return not module or at == module or at.startswith(module + ".")


def short_name(op: str) -> str:
    """`aten._to_copy.default` is `_to_copy`."""
    return op.removeprefix("aten.").rsplit(".", 1)[0]
