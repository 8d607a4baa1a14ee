"""What one stream of events takes of memory in processes of several pasts: a fresh one, a later call, a fuller card."""

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, partial

from profiler.allocator.caching import CachingAllocator, OutOfMemory
from profiler.allocator.expandable import ExpandableAllocator
from profiler.allocator.plain import PlainAllocator
from profiler.allocator.repeats import Repeat, find_repeats
from profiler.allocator.replay import Replay
from profiler.allocator.settings import settings_of
from profiler.data.events import Block, Events
from profiler.data.memory import Memory, Verdict
from profiler.data.spans import Span
from profiler.data.stack import Stack
from profiler.data.units import MIB, format_bytes
from profiler.machine.side_by_side import Beside

PlanOf = Callable[[Block], Hashable | None]
# Whether addresses fall, and the smaller calls before. Half the bytes is a clip of half the frames; a sixteenth, then a
# quarter are pictures whose sides double, as of somebody who tries a small one first.
PASTS: tuple[tuple[bool, tuple[int, ...]], ...] = ((False, (2,)), (True, (16, 4)))
WORTH = 5000  # events of a stream whose replays take as long as some forks do
# What a CUDA context takes where nobody measured it: the upper end of the 0.25 to 0.55 GiB that users report of stacks that
# load modules lazily; loading all at once took 362 MiB more (a card with CUDA 11.7).
CONTEXT_AT_MOST, EAGER_MORE = 563 * MIB, 362 * MIB
SPILLS = "on Windows and WSL such a card may go on in the host's memory, and crawl"
MOST_CALLS = 20  # to look for a state that repeats: the second call's was the first's in every stream but a full card's


def allocator_of(
    stack: Stack, capacity: int | None = None, *, falling: bool | None = None
) -> CachingAllocator | PlainAllocator:
    """The allocator of `stack`, with the settings of its environment. Raises UserError for settings without a model.

    Segments' addresses are `falling` on a card and rise in a dry run, unless said otherwise.
    """
    if stack.device == "cpu":
        return PlainAllocator()
    settings = settings_of(stack)
    falling = not stack.dry if falling is None else falling
    if settings.expandable:
        total = stack.device_total_bytes or capacity or 1 << 37
        return ExpandableAllocator(total, capacity, settings=settings, falling=falling)
    garbage_above = settings.garbage_above(stack.device_total_bytes)
    return CachingAllocator(capacity, settings, garbage_above=garbage_above, falling=falling)


def capacity_of(stack: Stack, context_bytes: int | None) -> int | None:
    """Bytes that the allocator may reserve: what CUDA reports, less the context and what is kept free for others, and within
    its own fraction. An unknown context counts as one of the largest. None where the card's size is not known.
    """
    if (total := stack.device_total_bytes) is None:
        return None
    taken = unknown_context(stack) if context_bytes is None else context_bytes
    return max(0, min(total - taken - stack.reserve_bytes, settings_of(stack).allowed(total)))


def unknown_context(stack: Stack) -> int:
    """The bytes that a CUDA context of unknown size may take."""
    return CONTEXT_AT_MOST + (EAGER_MORE if stack.settings.get("CUDA_MODULE_LOADING") == "EAGER" else 0)


class Calls:
    """The calls of one process, one after another, until the allocator's state repeats: then later ones go as before.

    `peaks` and `retries` (how often cached segments were given back) have one entry for each call that got through;
    `refused` is the request for which there was no room, None where every call gets through.
    """

    def __init__(
        self,
        events: Events,
        allocator: CachingAllocator | PlainAllocator,
        plan_of: PlanOf,
        spans: Sequence[Span] = (),
        repeats: Sequence[Repeat] | None = None,
    ) -> None:
        self.peaks: list[Memory] = []
        self.retries: list[int] = []
        self.refused: str | None = None
        self.repeats = False
        self._allocator = allocator
        try:
            self.first = Replay(events, allocator, plan_of=plan_of, spans=spans, repeats=repeats)
            self._passed(self.first.peak)
            states = {self.first.state()}
            while not self.repeats and len(self.peaks) < MOST_CALLS:
                self._passed(self.first.again())
                state = self.first.state()
                self.repeats = state in states
                states.add(state)
        except OutOfMemory as error:
            self.refused = f"no room for {error.requested:,} B with {allocator.allocated:,} B allocated"

    @property
    def reserved(self) -> int | None:
        """The most that any of the calls reserved; None on the CPU, whose allocator reserves nothing."""
        return max((peak.reserved_bytes for peak in self.peaks if peak.reserved_bytes is not None), default=None)

    def _passed(self, peak: Memory) -> None:
        self.peaks.append(peak)
        self.retries.append(self._allocator.retries - sum(self.retries))


class Histories:
    """The answers of one stream on one stack. `context_bytes` is what CUDA takes outside the allocator, None if unknown.

    `roomy` are the calls on a card with room for everything, `here` those on this card: None where its size is not known.
    `fresh` is the replay by which terms and tensors at the peak are told: on this card if every call gets through there,
    on a roomy one if not. For `plan_of` see `Replay`. `unplanned_bytes` is how much more one of the buffers may take than
    the stream says, where that is not known.
    """

    def __init__(
        self,
        events: Events,
        stack: Stack,
        context_bytes: int | None = None,
        plan_of: PlanOf = lambda _: None,
        unplanned_bytes: int = 0,
        spans: Sequence[Span] = (),
    ) -> None:
        self.events, self.stack, self.context_bytes = events, stack, context_bytes
        self.unplanned_bytes = unplanned_bytes
        self._repeats = find_repeats(events)
        others = partial(self._highest, ((stack.dry, ()), PASTS[1]))  # half of all the calls, replayed beside the rest
        self._beside = Beside(others, worth=stack.device != "cpu" and len(events.events) >= WORTH)
        self.roomy = Calls(events, allocator_of(stack), plan_of, spans, self._repeats)
        self.capacity = capacity = capacity_of(stack, context_bytes)
        reserved = self.roomy.reserved
        self.here = None if capacity is None or reserved is None else self.roomy
        if capacity is not None and reserved is not None and reserved > capacity:
            self.here = Calls(events, allocator_of(stack, capacity), plan_of, spans, self._repeats)
        self._told = self.here if self.here and self.here.refused is None else self.roomy
        self.fresh = self._told.first

    @property
    def baseline(self) -> Memory:
        """Weights and inputs resident."""
        return self.with_device(self.fresh.baseline)

    @property
    def peak(self) -> Memory:
        """The highest moment of the first call: on this card, or on a roomy one if this one does not get through."""
        return self.with_device(self.fresh.peak)

    @property
    def later(self) -> Memory:
        """The peak of a second call in the same process."""
        return self._told.peaks[1]

    @cached_property
    def safe_reserved_bytes(self) -> int | None:
        """The highest reserved peak on a roomy card: of a fresh process, of later calls, of `PASTS`, and of addresses in the
        other order, which is the driver's choice.

        With `unplanned_bytes` comes one more segment, of that size. Not a proof: the worst of those replayed. None on the
        CPU, whose allocator reserves nothing.
        """
        if self.roomy.reserved is None:
            return None
        highest = max(self.roomy.reserved, self._highest(PASTS[:1]), self._beside.found())
        return highest + (settings_of(self.stack).segment_size(self.unplanned_bytes) if self.unplanned_bytes else 0)

    def _highest(self, pasts: Sequence[tuple[bool, tuple[int, ...]]]) -> int:
        """The highest reserved peak on a roomy card, of processes with such addresses and smaller calls before."""
        replays = (
            Replay(self.events, allocator_of(self.stack, falling=falling), earlier=earlier, repeats=self._repeats)
            for falling, earlier in pasts
        )
        return max(replay.peak.reserved_bytes or 0 for replay in replays)

    @property
    def first_call_fits(self) -> bool | None:
        """Whether the first call alone gets through on the card; None where the card's size is not known."""
        return bool(self.here.peaks) if self.here else None

    @property
    def fits(self) -> bool | None:
        """Whether every call gets through on the card; None where its size is not known."""
        return None if self.here is None else self.here.refused is None

    def verdict(self) -> tuple[Verdict | None, str | None]:
        """Whether every call gets through on the card, and what is to be said of it; None where its size is not known.

        It is tight where that takes more than room for the peak, or a process of another past might not get through.
        """
        if self.here is None or self.capacity is None:
            return None, "the memory of this device is not known"
        if self.here.refused:
            through = len(self.here.peaks)
            who = "the first call gets" if through == 1 else f"the first {through} calls get"
            said = f"{who} through, the next does not: {self.here.refused}" if through else self.here.refused
            return "does not fit", f"{said}; {SPILLS}"
        remarks = _by_what(self.here)
        if (most := self.safe_reserved_bytes or 0) > self.capacity:
            less = format_bytes(most - self.capacity)
            remarks.append(f"a process of another past may reserve {format_bytes(most)}, {less} more than there is")
        return "tight" if remarks else "fits", "; ".join(remarks) or None

    def notes(self) -> dict[str, str]:
        """What is to be said of the verdict and of the capacity that it rests on."""
        return {name: text for name, text in (("fits", self.verdict()[1]), ("capacity", self._room())) if text}

    def _room(self) -> str:
        """How the capacity comes about, in words; empty where the card's size is not known."""
        if self.capacity is None:
            return ""
        context = self.context_bytes
        known = "" if context is not None else ", the most that users report: not measured on this card"
        parts = [f"{format_bytes(unknown_context(self.stack) if context is None else context)} of CUDA context{known}"]
        if self.stack.reserve_bytes:
            parts.append(f"{format_bytes(self.stack.reserve_bytes)} kept free")
        return f"{format_bytes(self.stack.device_total_bytes)} less {', less '.join(parts)}"

    def with_device(self, memory: Memory) -> Memory:
        """With device bytes, where reserved bytes and the context are known."""
        reserved, context = memory.reserved_bytes, self.context_bytes
        device = None if reserved is None or context is None else reserved + context
        return Memory(allocated_bytes=memory.allocated_bytes, reserved_bytes=reserved, device_bytes=device)


def _by_what(calls: Calls) -> list[str]:
    """What it takes that every call gets through: nothing on a card with room for everything."""
    by = []
    if count := len(calls.first.squeezed):
        by.append(f"only if other plans of cuDNN take less workspace (convolutions: {count}), and these may be slower")
    if any(calls.retries):
        by.append(
            f"only by giving cached segments back (first call: {calls.retries[0]} times, a later one: at most "
            f"{max(calls.retries[1:])}), which stalls the device"
        )
    if not calls.repeats:
        by.append(f"as far as {len(calls.peaks)} calls tell: they leave the allocator in another state each time")
    return by
