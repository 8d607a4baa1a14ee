"""Profiles made by hand: a few blocks whose lives and reads are known."""

from typing import Any

from profiler.data.events import Block
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.diagnosis.profile import Call, Profile, Usage

STACK = Stack(device="cuda", gpu="A card", capability=(9, 0), torch="2.13.0")
WORKLOAD = Workload(model="a-model", stage="denoise", frames=1, height=8, width=8, dtype="bf16")


class Story:
    """Writes a profile line by line: `make`, `read` and `free`, in calls."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.events: list[int] = []
        self.ops: list[tuple[str, str]] = []
        self.reads: dict[int, list[int]] = {}
        self.calls: list[Call] = []
        self.call_of: dict[int, int] = {}
        self.freed_in: dict[int, int] = {}
        self.open = [-1]

    def enter(self, path: str) -> "Story":
        self.calls.append(Call(path, len(self.ops), self.open[-1]))
        self.open.append(len(self.calls) - 1)
        return self

    def leave(self) -> "Story":
        self.calls[self.open.pop()].end = len(self.ops)
        return self

    def make(self, size: int, op: str = "mul", reads: tuple[int, ...] = (), **about: Any) -> int:
        """An op that reads blocks and makes one of `size` bytes; its number."""
        self.run(op, reads)
        about = {"term": "activations", "phase": "cold", "dtype": "bfloat16", "shape": (size // 2,)} | about
        number = len(self.blocks)
        self.blocks.append(Block(number, size, len(self.ops) - 1, born=len(self.events), **about))
        self.events.append(number)
        return number

    def run(self, op: str, reads: tuple[int, ...]) -> None:
        """An op that makes nothing."""
        call = self.open[-1]
        self.ops.append((self.calls[call].path if call >= 0 else "", f"aten.{op}.default"))
        self.call_of[len(self.ops) - 1] = call
        for number in reads:
            self.reads.setdefault(number, []).append(len(self.ops) - 1)

    def free(self, number: int) -> None:
        self.blocks[number].died = len(self.events)
        self.events.append(~number)
        self.freed_in[number] = self.open[-1]

    def profile(self, **fields: Any) -> Profile:
        totals, total = [], 0
        for number in self.events:
            total += self.blocks[number].bytes if number >= 0 else -self.blocks[~number].bytes
            totals.append(total)
        usage = Usage(
            reads=self.reads, calls=self.calls, call_of=self.call_of, kernels={}, freed_in=self.freed_in, owners={},
            classes={},
        )  # fmt: skip
        about = {"workload": WORKLOAD, "stack": STACK, "source": "estimated", "reserved": None} | fields
        return Profile(
            blocks=self.blocks, events=self.events, ops=self.ops, sizes=[block.bytes for block in self.blocks],
            peak_event=totals.index(max(totals)), usage=usage, **about,
        )  # fmt: skip
