"""The allocations of a stage's first call, estimated or measured: one shape for everything that is said about them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import CodeType
from typing import Literal

from profiler.data.events import Block, alive_at, first_event
from profiler.data.memory import Verdict
from profiler.data.spans import Span
from profiler.data.stack import Stack
from profiler.data.workload import MemoryOptions, Placement, Workload

Source = Literal["estimated", "measured", "dry"]
ROLES: dict[Source, str] = {"estimated": "estimated for", "measured": "measured on", "dry": "dry run of"}
STANDING = ("weights", "inputs")  # what stands before the call


@dataclass(slots=True)
class Call:
    """One call of the module at `path`: ops `first` to `end` (exclusive). `parent` is the call around it, -1 for none."""

    path: str
    first: int
    parent: int
    end: int = 0


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a convolution or attention was priced as, how, and the op after its last one: some run as several ops."""

    name: str
    detail: str
    end: int


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What only a trace can know; see `UsageTrace`, and `HeldTrace` for `held`, of a generation alone.

    `owners[block]` is the module that a weight belongs to.
    """

    reads: dict[int, list[int]]
    calls: list[Call]
    call_of: dict[int, int]
    kernels: dict[int, Kernel]
    freed_in: dict[int, int]
    owners: dict[int, str]
    classes: dict[str, str]
    held: dict[int, tuple[CodeType, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A whole generation, with what is asked of a workload. Sizes are pixels, None where the pipeline has no such size.

    `dtype` is that of the component in which the peak stands. A call of the user's own has one too, under its own name.
    """

    pipeline: str
    dtype: str
    frames: int | None
    height: int | None
    width: int | None
    options: MemoryOptions
    placement: Placement
    stage: Literal["generate", "call"] = "generate"

    @property
    def key(self) -> str:
        """As of a workload."""
        size = "x".join(str(side) for side in (self.frames, self.height, self.width) if side)
        return "/".join(filter(None, [self.pipeline, self.stage, size, self.options.key, self.placement.key]))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The blocks of a call, and what becomes of them: event `n` is the birth of block `n`, event `~n` its death.

    `sizes[n]` are the bytes that the allocator hands out for block `n`; `ops[i]` is (module path, op name); `peak_event`
    the birth by which allocated bytes are highest; `reserved` the peak of reserved bytes, None on the CPU;
    `cache_emptied_at` the events before which cached segments were given back; `phases` are those of a generation, each with
    the event of its own peak.
    """

    workload: Workload | Generated
    stack: Stack
    source: Source
    blocks: list[Block]
    events: list[int]
    ops: list[tuple[str, str]]
    sizes: list[int]
    peak_event: int
    reserved: int | None
    cache_emptied_at: set[int] = field(default_factory=set)
    usage: Usage
    phases: dict[Span, int] = field(default_factory=dict)
    output_shapes: tuple[tuple[int, ...], ...] = ()
    verdict: Verdict | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def first_event(self) -> int:
        """The first event of the first call."""
        return first_event(self)

    @cached_property
    def alive(self) -> list[Block]:
        """Blocks alive at the peak, largest first."""
        return sorted(alive_at(self.blocks, self.peak_event), key=lambda block: -self.sizes[block.number])

    @cached_property
    def peak_op(self) -> int:
        """The op whose allocation makes the peak."""
        return self.blocks[self.events[self.peak_event]].op

    @cached_property
    def peak(self) -> int:
        """Allocated bytes at the peak."""
        return self.size(self.alive)

    @cached_property
    def baseline(self) -> int:
        """Allocated bytes before the call: weights, inputs, and what libraries kept of earlier calls."""
        return self.size(alive_at(self.blocks, self.first_event - 1))

    def size(self, blocks: list[Block]) -> int:
        """Allocated bytes of `blocks` together."""
        return sum(self.sizes[b.number] for b in blocks)

    def module(self, block: Block) -> str:
        """The module that made the block, or that owns it; the stage itself is empty."""
        owner = self.usage.owners.get(block.number, "")
        return self.ops[block.op][0] if block.phase == "cold" and not (owner and block.term == "weights") else owner

    def op(self, block: Block) -> str:
        """The op that made the block; the phase for what stood there before the call."""
        return self.ops[block.op][1] if block.phase == "cold" else block.phase

    def steps(self) -> Iterator[tuple[int, Block, bool, int]]:
        """Event by event: its position, its block, whether it is a birth, and the bytes allocated after it."""
        total = 0
        for event, number in enumerate(self.events):
            birth = number >= 0
            block = self.blocks[number if birth else ~number]
            total += self.sizes[block.number] if birth else -self.sizes[block.number]
            yield event, block, birth, total


def ancestors(path: str) -> list[str]:
    """`a.b.c` and every module above it, the stage itself (empty) last."""
    parts = path.split(".") if path else []
    return [".".join(parts[:n]) for n in range(len(parts), -1, -1)]
