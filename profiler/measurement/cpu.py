"""Measures on the CPU: the allocator's own reports, as the profiler records them, and the process's resident memory.

The CPU allocator keeps no counters, but reports each allocation and free to the profiler with a running total. One
profiler session covers the whole process, so totals are true from the first weight on; markers in its event tree say
which phase and which op an event fell in. There is no cache, so reserved bytes do not exist here.

Weights that are mapped from their file never come from the allocator. They are counted from the beginning: the resident
storages whose addresses the allocator does not hold.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._pytree import tree_leaves

from profiler.data.events import Stream
from profiler.data.memory import Memory
from profiler.data.records import Phase, Reading
from profiler.machine.live import live_stack
from profiler.measurement.meter import Meter, OpPeak
from profiler.trace.observer import Observer

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
_MARK = "latentmeter|"


@dataclass
class _Interval:
    """The allocator's total over a marked stretch: at its highest and at its end."""

    label: str
    peak: int
    end: int


class CpuMeter(Meter):
    """This process on the CPU."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.stack = live_stack("cpu")
        self.kind = "cpu"
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self._phases: list[Reading] = []  # without the allocator's bytes, which are known when the meter is left
        self._intervals: list[_Interval] = []
        self._watch: _CpuObserver | None = None
        self._resident: dict[int, int] = {}  # bytes of the resident storages, by address
        self._mapped = 0

    def __enter__(self) -> "CpuMeter":
        self._profile.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._profile.__exit__(None, None, None)
        results: Any = self._profile.profiler.kineto_results  # type: ignore[union-attr]
        self._intervals, held = _intervals(results.experimental_event_tree())
        self._mapped = sum(size for address, size in self._resident.items() if address not in held)
        for interval in self._intervals:
            interval.peak, interval.end = interval.peak + self._mapped, interval.end + self._mapped

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """A marker in the event tree, and the resident memory within it."""
        with suppress(OSError):  # where that is not allowed, peaks run on from the start
            CLEAR_REFS.write_text("5", encoding="utf-8")  # starts VmHWM anew (proc_pid_clear_refs(5))
        seconds = None
        started = time.perf_counter()
        with record_function(f"{_MARK}phase"):
            try:
                yield
                seconds = time.perf_counter() - started
            finally:
                peak, end = Memory(device_bytes=_resident("VmHWM")), Memory(device_bytes=_resident("VmRSS"))
                read = Reading(phase=name, peak=peak, end=end, seconds=seconds, process_bytes=end.device_bytes)
                self._phases.append(read)

    def resident(self, values: Any) -> None:
        """Note the storages of `values`: which of them the allocator gave is known when the meter is left."""
        for tensor in tree_leaves(values):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._resident[storage.data_ptr()] = storage.nbytes()

    def readings(self) -> tuple[Reading, ...]:
        """One a phase, after the meter was left; none before."""
        intervals = [interval for interval in self._intervals if interval.label == "phase"]
        return tuple(
            replace(
                reading,
                peak=replace(reading.peak, allocated_bytes=interval.peak),
                end=replace(reading.end, allocated_bytes=interval.end),
            )
            for reading, interval in zip(self._phases, intervals, strict=False)
        )

    def watch(self) -> Observer:
        """An observer that marks each op in the event tree."""
        self._watch = _CpuObserver()
        return self._watch

    def op_peaks(self) -> list[OpPeak]:
        found = []
        for interval in self._intervals:
            if interval.label != "phase":
                op, event = map(int, interval.label.split("|"))
                found.append(OpPeak(op=op, event=event, peak=interval.peak, end=interval.end))
        return found

    def stream(self) -> Stream | None:
        """The tensors that the watch saw; the allocator's own reports carry no op."""
        return Stream(self._watch.blocks, self._watch.events, self._watch.ops) if self._watch else None

    def reasons(self) -> dict[str, str]:
        """What a CPU has no number for."""
        counters = ("requested_peak_bytes", "active_peak_bytes", "alloc_retries", "ooms")
        return {
            "reserved_bytes": "the CPU allocator caches nothing",
            **dict.fromkeys(counters, "a counter of the CUDA allocator"),
            "device_free_bytes": "there is no device beside the CPU",
            **({"terms.weights": f"{self._mapped:,} B of them are mapped from their file"} if self._mapped else {}),
        }


class _CpuObserver(Observer):
    def __init__(self) -> None:
        super().__init__("cpu")

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        with record_function(f"{_MARK}{len(self.ops) - 1}|{len(self.events)}"):
            return func(*args, **kwargs)


def _intervals(tree: list[Any]) -> tuple[list[_Interval], set[int]]:
    """Every marked stretch of the event tree with its totals, in order of start; and the addresses held at the end."""
    found: list[_Interval] = []
    held: set[int] = set()
    total, before = 0, None  # the allocator's own total runs on through the process

    def visit(event: Any, around: list[_Interval]) -> None:
        nonlocal total, before
        if event.name == "[memory]":
            seen = event.extra_fields
            before = seen.total_allocated - seen.alloc_size if before is None else before
            total = seen.total_allocated - before
            (held.add if seen.alloc_size > 0 else held.discard)(seen.ptr)
            for interval in around:
                interval.peak, interval.end = max(interval.peak, total), total
        elif event.name.startswith(_MARK):
            found.append(_Interval(event.name.removeprefix(_MARK), peak=total, end=total))
            around = [*around, found[-1]]
        for child in event.children:
            visit(child, around)

    for event in sorted(tree, key=lambda e: e.start_time_ns):
        visit(event, [])
    return found, held


def _resident(name: str) -> int | None:
    """A line of /proc/self/status in bytes: VmRSS (resident now) or VmHWM (its peak); None where there is no such file."""
    try:
        match = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(match.group(1)) * 1024 if match else None
