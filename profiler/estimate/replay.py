"""Replays a trace through an allocator: what `torch.cuda` would count, and what stands at the peak."""

from collections import defaultdict

from profiler.estimate.allocator import Block as Piece
from profiler.estimate.allocator import CachingAllocator, OutOfMemory, PlainAllocator
from profiler.estimate.trace import Trace
from profiler.observe import Block
from profiler.records import AliveTensor, Memory, PeakAt

LARGEST = 10


class Replay:
    """A trace run through an allocator: the size each block really takes, and the moment of the peak.

    With `squeeze`, a workspace for which there is no room is left out and counted: ATen takes the next plan then.
    """

    def __init__(self, trace: Trace, allocator: CachingAllocator | PlainAllocator, *, squeeze: bool = False) -> None:
        self.trace = trace
        self.allocator = allocator
        self.squeeze = squeeze
        self.squeezed = 0
        self.sizes = [0] * len(trace.blocks)
        self.baseline = Memory()
        self.peak_event = 0
        self._replay()

    def _replay(self) -> None:
        allocator, pieces = self.allocator, dict[int, Piece]()
        first_call_event = next((b.born for b in self.trace.blocks if b.phase == "cold"), len(self.trace.events))
        highest = 0
        for event, number in enumerate(self.trace.events):
            if event == first_call_event:
                allocator.reset_peaks()
                self.baseline = self._now()
                highest, self.peak_event = allocator.allocated, event - 1
            if number < 0:
                if ~number in pieces:
                    allocator.free(pieces.pop(~number))
                continue
            try:
                piece = pieces[number] = allocator.malloc(self.trace.blocks[number].bytes)
            except OutOfMemory:
                if not (self.squeeze and self.trace.blocks[number].term == "workspace"):
                    raise
                self.squeezed += 1
                continue
            self.sizes[number] = piece.size
            if event >= first_call_event and allocator.allocated > highest:
                highest, self.peak_event = allocator.allocated, event

    def _now(self) -> Memory:
        return Memory(allocated_bytes=self.allocator.allocated, reserved_bytes=self.allocator.reserved)

    def alive(self) -> list[Block]:
        """Blocks alive at the peak, largest first."""
        at = self.peak_event
        alive = [b for b in self.trace.blocks if b.born <= at and (b.died is None or b.died > at)]
        return sorted(alive, key=lambda block: -self.sizes[block.number])

    def terms(self) -> dict[str, int | None]:
        """Allocated bytes at the peak by term; a term with nothing alive is a true 0."""
        totals: dict[str, int | None] = dict.fromkeys(("weights", "inputs", "outputs", "activations", "workspace"), 0)
        sums: dict[str, int] = defaultdict(int)
        for block in self.alive():
            sums[block.term] += self.sizes[block.number]
        return totals | sums

    def peak_at(self) -> PeakAt:
        """The op whose allocation makes the peak."""
        block = self.trace.blocks[self.trace.events[self.peak_event]]
        module, op = self.trace.ops[block.op]
        return PeakAt(module=module, op=op)

    def largest(self) -> tuple[AliveTensor, ...]:
        """The largest tensors and buffers alive at the peak."""
        return tuple(self._describe(block) for block in self.alive()[:LARGEST])

    def _describe(self, block: Block) -> AliveTensor:
        module, op = self.trace.ops[block.op] if block.phase == "cold" else ("", block.phase)
        return AliveTensor(
            bytes=self.sizes[block.number], shape=block.shape, dtype=block.dtype, term=block.term, module=module, op=op
        )
