"""Measures on a CUDA device: the caching allocator's own counters, the driver's free memory, NVML.

Allocated, active, reserved and requested peaks are exact: the allocator updates them at each allocation. Device bytes are
NVML's `used` less what was used before this process made its CUDA context, so they hold context, modules and segments.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from profiler.data.events import Stream
from profiler.data.memory import Memory
from profiler.data.records import Phase, Reading
from profiler.data.stack import DRY
from profiler.data.units import less
from profiler.errors import UserError
from profiler.machine.live import device_uuid, live_stack
from profiler.machine.nvml import Value, devices, find, snapshot, used_bytes
from profiler.machine.sampler import Sampler
from profiler.measurement import cuda_events
from profiler.measurement.meter import Cut, Meter, OpPeak
from profiler.trace.observer import Observer

PEAKS = ("allocated_bytes", "reserved_bytes", "requested_bytes", "active_bytes")


class CudaMeter(Meter):
    """The current CUDA device. With `events` each of the allocator's events is kept."""

    def __init__(self, *, events: bool = False) -> None:
        self.device = torch.device("cuda")
        self.kind = "dry" if DRY in os.environ else "cuda"
        # NVML first: whatever torch does with the device, even asking its properties, may make a context on it.
        before = {uuid: used_bytes(uuid) for uuid in devices().value or []}
        self.stack = live_stack("cuda")
        if "PYTORCH_NO_CUDA_MEMORY_CACHING" in self.stack.settings:
            raise UserError("PYTORCH_NO_CUDA_MEMORY_CACHING is set: nothing is counted without the caching allocator")
        self._uuid = device_uuid()
        self._sampler = Sampler(self._uuid)
        # A MIG slice is not listed, and its use can no longer be asked: by now this process's context is in it.
        unlisted = Value[int](reason=find(self._uuid).reason or "what was used before this process is not known")
        self._used_before = before.get(self._uuid or "", unlisted)
        self._lost: str | None = None
        self._readings: list[Reading] = []
        self._watch: _CudaObserver | None = None
        self._events = events
        self._starts: dict[str, int] = {}
        self._highest: dict[str, int] = {}  # of a phase, by the names of PEAKS: cuts and the watch start counters anew

    def __enter__(self) -> "CudaMeter":
        # The context must exist before counters are reset: resetting first is lost with the lazy initialisation.
        torch.cuda.init()
        torch.cuda.synchronize()
        if self._events:
            cuda_events.begin()
        self._sampler.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._sampler.stop()

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Counters are reset before and read after; the clock is CUDA's own events."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self._highest.clear()
        before = torch.cuda.memory_stats()
        self._starts.setdefault(name, cuda_events.position(before))
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        seconds = None
        started = time.perf_counter()
        start.record()
        try:
            yield
            end.record()
            torch.cuda.synchronize()
            if self.kind != "dry":
                on_device = name in ("cold", "warm")
                seconds = start.elapsed_time(end) / 1000 if on_device else time.perf_counter() - started
        finally:
            self._readings.append(self._read(name, before, seconds))

    def readings(self) -> tuple[Reading, ...]:
        """One a phase, complete at once."""
        return tuple(self._readings)

    def cut(self) -> Cut:
        """Host-side counters, no synchronisation."""
        stats = torch.cuda.memory_stats()
        torch.cuda.reset_peak_memory_stats()
        _keep_highest(self._highest, stats)
        now, peak = (Memory(**{name: stats[f"{name}.all.{end}"] for name in PEAKS[:2]}) for end in ("current", "peak"))
        pinned: dict[str, int] = getattr(torch.cuda, "host_memory_stats", dict)()  # from torch 2.7 on
        return Cut(cuda_events.position(stats), now, peak, pinned.get("allocated_bytes.peak", 0) if pinned else None)

    def watch(self) -> Observer:
        """An observer that resets and reads the peak around each op: host-side counters, no synchronisation."""
        self._watch = _CudaObserver(self._highest)
        return self._watch

    def op_peaks(self) -> list[OpPeak]:
        return self._watch.peaks if self._watch else []

    def stream(self) -> Stream | None:
        """Every event of the cold call as it ran; None if they were not asked for, or too many to keep."""
        if not self._events or self._watch is None:
            return None
        recorded = cuda_events.end()
        return cuda_events.stream(recorded, self._starts, self._watch, self._watch.peaks) if recorded[0] else None

    def describe(self) -> dict[str, Any]:
        return self._sampler.summary()

    def reasons(self) -> dict[str, str]:
        """Device bytes are unknown without NVML; a dry run has no time."""
        dry = {"seconds": "dry run: kernels were not executed"} if self.kind == "dry" else {}
        lost = self._used_before.reason if self._used_before.value is None else self._lost
        return dry | ({"device_bytes": f"NVML: {lost}"} if lost is not None else {})

    def _read(self, name: Phase, before: dict[str, int], seconds: float | None) -> Reading:
        stats = torch.cuda.memory_stats()
        free, _ = torch.cuda.mem_get_info()
        seen = snapshot(self._uuid)
        device = less(seen["used_bytes"], self._used_before.value)
        if seen["used_bytes"] is None:
            self._lost = seen["reasons"].get("used_bytes", "no answer")
        reserved = stats["reserved_bytes.all.current"]
        peaks = {key: stats.get(f"{key}.all.peak") for key in PEAKS} | _keep_highest(self._highest, stats)
        return Reading(
            phase=name,
            peak=Memory(
                allocated_bytes=peaks["allocated_bytes"],
                reserved_bytes=peaks["reserved_bytes"],
                # Read at the end; segments that a retried allocation gave back since the peak are added again.
                device_bytes=None if device is None else device + (peaks["reserved_bytes"] or 0) - reserved,
            ),
            end=Memory(
                allocated_bytes=stats["allocated_bytes.all.current"], reserved_bytes=reserved, device_bytes=device
            ),
            requested_peak_bytes=peaks["requested_bytes"],
            active_peak_bytes=peaks["active_bytes"],
            alloc_retries=stats["num_alloc_retries"] - before["num_alloc_retries"],
            ooms=stats["num_ooms"] - before["num_ooms"],
            seconds=seconds,
            device_free_bytes=free,
            process_bytes=seen["process_bytes"],
        )


class _CudaObserver(Observer):
    def __init__(self, highest: dict[str, int]) -> None:
        super().__init__("cuda")
        self.peaks: list[OpPeak] = []
        self.highest = highest

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        torch.cuda.reset_peak_memory_stats()
        result = func(*args, **kwargs)
        stats = torch.cuda.memory_stats()
        self.track(result)
        peak, end = stats["allocated_bytes.all.peak"], stats["allocated_bytes.all.current"]
        _keep_highest(self.highest, stats)
        self.peaks.append(OpPeak(len(self.ops) - 1, len(self.events), peak, end, cuda_events.position(stats)))
        return result


def _keep_highest(highest: dict[str, int], stats: dict[str, int]) -> dict[str, int]:
    """`highest` of each of PEAKS that torch counts, with that of `stats`."""
    for key in PEAKS:
        if f"{key}.all.peak" in stats:
            highest[key] = max(highest.get(key, 0), stats[f"{key}.all.peak"])
    return highest
