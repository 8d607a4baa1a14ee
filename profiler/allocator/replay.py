"""Replays a trace through an allocator: what `torch.cuda` would count, and what stands at the peak."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence

from profiler.allocator.caching import CachingAllocator, OutOfMemory, Piece
from profiler.allocator.plain import PlainAllocator
from profiler.allocator.repeats import Repeat, find_repeats
from profiler.data.events import Block, Events, alive_at, described, first_event, first_later_event, place_of
from profiler.data.memory import ALLOCATED_TERMS, AliveTensor, Memory, PeakAt
from profiler.data.spans import Span
from profiler.data.units import ceil_div

LARGEST = 10
LOOKS = 6  # at the states between periods, for one that comes again


class Replay:
    """A trace run through an allocator: the size each block really takes, and the moment of the peak.

    `plan_of` names the convolution whose plan takes a block as its workspace; None for every other block. Where there is no
    room for the workspace, ATen takes another plan, and keeps it for all calls of this convolution (Conv_v8.cpp,
    `try_configs` and `benchmark_cache`). What that one takes is not known: nothing is counted, and `squeezed` has the block.
    `earlier` are calls of smaller pictures or clips before it: (16, 4) is one whose tensors have a sixteenth of the bytes,
    then one of a quarter. They leave their segments behind. `spans` are the phases to tell apart: `phases` has the peak of
    each and the event at which it stands. `repeats` are the stream's, where they were found already: of their periods only
    those are played that change something.
    """

    def __init__(
        self,
        trace: Events,
        allocator: CachingAllocator | PlainAllocator,
        *,
        plan_of: Callable[[Block], Hashable | None] = lambda _: None,
        earlier: tuple[int, ...] = (),
        spans: Sequence[Span] = (),
        repeats: Sequence[Repeat] | None = None,
    ) -> None:
        self.trace = trace
        self.spans = spans
        self.phases: dict[Span, tuple[Memory, int]] = {}
        self.allocator = allocator
        self.plan_of = plan_of
        self.squeezed: set[int] = set()
        self._given_up: set[Hashable] = set()
        self.sizes = [0] * len(trace.blocks)
        self._pieces: dict[int, Piece] = {}
        self._highest, self._highest_at, self._anew = 0, -1, False
        self._repeats = find_repeats(trace) if repeats is None else repeats
        self._start, self._later = first_event(trace), first_later_event(trace)
        self._play(0, self._start, 1, trace.cache_emptied_at)
        for shrink in earlier:
            self._call(shrink)
            self._drop_outputs()
        allocator.reset_peaks()
        self.baseline = self._now()
        self.peak_event = self._call()
        self.peak = self._peak()

    def again(self) -> Memory:
        """The peak of one more call, after the last one's outputs were dropped. What a call keeps is there already."""
        self._drop_outputs()
        self.allocator.reset_peaks()
        sizes = self.sizes.copy()  # what was handed out at the first call is what its peak is told by
        self._call(first=False)
        if self._later == len(self.trace.events):
            self.sizes = sizes
        return self._peak()

    def state(self) -> Hashable:
        """All that a later call depends on, once the last one's outputs were dropped.

        Pieces in the order of their addresses, with the block that each holds: best fit asks for sizes and for that order.
        """
        self._drop_outputs()
        pieces = [*((piece, -1) for piece in self.allocator.unused()), *((p, n) for n, p in self._pieces.items())]
        pieces.sort(key=lambda pair: pair[0].address)
        layout = tuple((p.size, n, p.pool.small, p.mapped, p.previous is None) for p, n in pieces)
        return layout, frozenset(self._given_up)

    def _call(self, shrink: int = 1, first: bool = True) -> int:
        """Play the call. A later one is the second that was watched, or else the first again, without what it timed."""
        end, emptied = len(self.trace.events), self.trace.cache_emptied_at
        if first:
            return self._play(self._start, self._later, shrink, emptied)
        watched = self._later < end
        return self._play(self._later if watched else self._start, end, shrink, emptied if watched else set())

    def _play(self, start: int, stop: int, shrink: int, emptied: set[int]) -> int:
        """Play events `start` to `stop`, phase by phase; returns the one at which most is allocated."""
        spans = [span for span in self.spans if start <= span.start and span.stop <= stop]
        if not spans:
            return self._play_span(start, stop, shrink, emptied)
        allocator, peaks = self.allocator, []
        for span in spans:
            at = self._play_span(span.start, span.stop, shrink, emptied, anew=True)
            peaks.append((allocator.peak_allocated, allocator.peak_reserved, at))
            self.phases.setdefault(span, (self._peak(), at))
        self._play_events(spans[-1].stop, stop, shrink, emptied)  # inputs, which are of no phase
        allocator.peak_allocated = max(allocated for allocated, _, _ in peaks)
        allocator.peak_reserved = max((reserved for _, reserved, _ in peaks if reserved is not None), default=None)
        return max(peaks, key=lambda peak: peak[0])[2]

    def _play_span(self, start: int, stop: int, shrink: int, emptied: set[int], *, anew: bool = False) -> int:
        """Play events `start` to `stop`; returns the one at which most is allocated. A block that is there stays.

        With `anew` peaks count from the first birth on: a component that is evicted before it is no part of this phase.
        """
        self._highest, self._highest_at, self._anew = self.allocator.allocated, start - 1, anew
        if anew:  # a phase that only frees has the level at its start
            self.allocator.reset_peaks()
        at = start
        for repeat in self._repeats:
            if at <= repeat.start < stop:
                self._play_events(at, repeat.start, shrink, emptied)
                at = self._play_repeat(repeat, min(stop, repeat.stop), shrink, emptied)
        self._play_events(at, stop, shrink, emptied)
        return self._highest_at

    def _play_repeat(self, repeat: Repeat, stop: int, shrink: int, emptied: set[int]) -> int:
        """Play a repeat up to `stop`, or leave periods out that change nothing; returns the first event not played."""
        at, seen = repeat.start, dict[Hashable, int]()
        while at + repeat.period <= stop and len(seen) < LOOKS:
            now = self._stands(repeat, at)
            if now in seen:  # two buffers that take turns stand the same every other time
                return self._skip(repeat, at, at - seen[now], stop)
            if now is not None:
                seen[now] = at
            self._play_events(at, at + repeat.period, shrink, emptied)
            at += repeat.period
        return at

    def _stands(self, repeat: Repeat, at: int) -> Hashable | None:
        """All that the events of a repeat depend on, from event `at` on; None where that is not known."""
        free = None if self._given_up else self.allocator.free_now()
        return free and (free, tuple((ago, piece.address) for ago, _, piece in self._young(repeat, at)))

    def _young(self, repeat: Repeat, at: int) -> Iterator[tuple[int, int, Piece]]:
        """What stands there at event `at` and may die within the repeat: how long ago it was born, its block and piece."""
        for ago in range(1, repeat.reach + 1):
            number = self.trace.events[at - ago]
            if number in self._pieces:
                yield ago, number, self._pieces[number]

    def _skip(self, repeat: Repeat, at: int, cycle: int, stop: int) -> int:
        """Let blocks stand where those of the `cycle` events before do, up to `stop`; returns the event behind them."""
        events, behind = self.trace.events, stop - (stop - at) % cycle
        for event in range(at, behind):
            if events[event] >= 0:
                self.sizes[events[event]] = self.sizes[events[event - cycle]]
        for ago, number, piece in list(self._young(repeat, at)):
            del self._pieces[number]
            self._pieces[events[behind - ago]] = piece
        return behind

    def _play_events(self, start: int, stop: int, shrink: int, emptied: set[int]) -> None:
        allocator, pieces, blocks = self.allocator, self._pieces, self.trace.blocks
        for event, number in enumerate(self.trace.events[start:stop], start):
            if emptied and event in emptied:
                allocator.empty_cache()
            if number < 0:
                if (piece := pieces.pop(~number, None)) is not None:
                    allocator.free(piece, awaited=blocks[~number].awaited)
                continue
            if number in pieces:
                continue
            if self._anew:
                self._anew = False
                allocator.reset_peaks()
                self._highest, self._highest_at = 0, event
            block = blocks[number]
            if self._given_up and self.plan_of(block) in self._given_up:
                self.squeezed.add(number)
                continue
            size = block.bytes
            # What is kept is no picture's, nor are weights that come and go.
            if shrink > 1 and block.term != "weights" and (block.died is not None or block.term == "outputs"):
                size = ceil_div(size, shrink)
            try:
                piece = allocator.malloc(size, block.queue)
            except OutOfMemory:
                if (plan := self.plan_of(block)) is None:
                    raise
                self._given_up.add(plan)
                self.squeezed.add(number)
                continue
            pieces[number] = piece
            self.sizes[number] = piece.size
            if allocator.allocated > self._highest:
                self._highest, self._highest_at = allocator.allocated, event

    def _drop_outputs(self) -> None:
        for number in [n for n in self._pieces if self.trace.blocks[n].term == "outputs"]:
            self.allocator.free(self._pieces.pop(number))

    def _peak(self) -> Memory:
        return Memory(allocated_bytes=self.allocator.peak_allocated, reserved_bytes=self.allocator.peak_reserved)

    def _now(self) -> Memory:
        return Memory(allocated_bytes=self.allocator.allocated, reserved_bytes=self.allocator.reserved)

    def alive(self) -> list[Block]:
        """Blocks alive at the peak, largest first; not those that were left out."""
        alive = [block for block in alive_at(self.trace.blocks, self.peak_event) if self.sizes[block.number]]
        return sorted(alive, key=lambda block: -self.sizes[block.number])

    def terms(self) -> dict[str, int | None]:
        """Allocated bytes at the peak by term; a term with nothing alive is a true 0."""
        sums = Counter(dict.fromkeys(ALLOCATED_TERMS, 0))
        for block in self.alive():
            sums[block.term] += self.sizes[block.number]
        return dict(sums)

    def peak_at(self) -> PeakAt:
        """The op whose allocation makes the peak."""
        block = self.trace.blocks[self.trace.events[self.peak_event]]
        module, op = self.trace.ops[block.op]
        return PeakAt(module=module, op=op)

    def largest(self, *, weights: bool = True) -> tuple[AliveTensor, ...]:
        """The largest tensors and buffers alive at the peak, with `weights` or without."""
        found = [block for block in self.alive() if weights or block.term != "weights"]
        return tuple(described(b, self.sizes[b.number], *place_of(self.trace, b)) for b in found[:LARGEST])
