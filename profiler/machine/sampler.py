"""Follows one GPU through a measurement: reads NVML again and again from a thread of its own, and says what was seen."""

import threading
import time
from typing import Any

from profiler.machine.nvml import GAUGES, find, read_gauges

NOTE = "sampled: each maximum is a lower bound, because what rises and falls between two samples is missed"
PATIENCE_SECONDS = 10.0  # how long a sampler waits for a driver that has stopped answering


class Sampler:
    """Reads one GPU every `interval_seconds` from a daemon thread, between `start` and `stop`.

    The first sample is taken by `start` and the last by `stop`, in the caller's thread, so a short stretch has two. Runs
    once. NVML that fails midway, or is not there at all, leaves reasons in `summary`, never an exception.
    """

    def __init__(self, uuid: str | None, interval_seconds: float = 0.02) -> None:
        self._interval = interval_seconds
        self._handle = find(uuid)
        self._samples = 0
        self._sampled_at: float | None = None
        self._largest_gap: float | None = None
        self._ranges: dict[str, dict[str, int]] = {}  # the lowest, highest and last value
        self._absent: dict[str, tuple[int, str]] = {}  # in how many samples, and the last reason
        self._lock = threading.Lock()  # over the fields above; never held while the driver is asked
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvml-sampler", daemon=True)

    def start(self) -> None:
        """Take the first sample and let the thread go on. Without a device there is one sample, of reasons."""
        self._sample()
        if self._handle.reason is None:
            self._thread.start()

    def stop(self) -> None:
        """End the thread and take the last sample. A thread that hangs in the driver is left behind."""
        if self._thread.ident is None or self._stopping.is_set():
            return
        self._stopping.set()
        self._thread.join(timeout=PATIENCE_SECONDS)
        if not self._thread.is_alive():
            self._sample()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        now = time.perf_counter()
        reading = read_gauges(self._handle)
        with self._lock:
            if self._sampled_at is not None:
                self._largest_gap = max(self._largest_gap or 0.0, now - self._sampled_at)
            for name in GAUGES:
                value, seen = reading[name].value, self._ranges.get(name)
                if value is None:
                    self._absent[name] = (self._absent.get(name, (0, ""))[0] + 1, reading[name].reason or "")
                else:
                    low, high = (seen["min"], seen["max"]) if seen else (value, value)
                    self._ranges[name] = {"min": min(low, value), "max": max(high, value), "last": value}
            self._samples, self._sampled_at = self._samples + 1, now

    def summary(self) -> dict[str, Any]:
        """What was seen, JSON-ready: each of GAUGES as `{min, max, last}` or None (`last`: the last known value).

        Beside them `samples`, `interval_seconds` as asked and `largest_gap_seconds` as seen (None for one sample),
        `note`, and `reasons` of whatever was absent in any sample.
        """
        with self._lock:
            reasons = dict.fromkeys(() if self._samples else GAUGES, "no sample was taken")
            for name, (count, reason) in self._absent.items():
                often = "" if count == self._samples else f"absent in {count} of {self._samples} samples: "
                reasons[name] = often + reason
            if self._stopping.is_set() and self._thread.is_alive():
                reasons["samples"] = f"the driver stopped answering: its last call took over {PATIENCE_SECONDS} s"
            return {
                "samples": self._samples,
                "interval_seconds": self._interval,
                "largest_gap_seconds": self._largest_gap,
                "note": NOTE,
                **{name: self._ranges.get(name) for name in GAUGES},
                "reasons": reasons,
            }
