"""What a device's meter gives the worker: phases, readings, and a watch over each op. One class a device."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from profiler.data.events import Stream
from profiler.data.memory import Memory
from profiler.data.records import DeviceKind, Phase, Reading
from profiler.data.stack import Stack
from profiler.trace.observer import Observer


@dataclass(frozen=True)
class OpPeak:
    """One observed op: the device's bytes at its highest, and when it returned.

    `event` is the observer's position, `position` the allocator's own count of births and deaths when the op returned.
    """

    op: int
    event: int
    peak: int
    end: int
    position: int = 0

    @property
    def borrowed(self) -> int:
        """Bytes taken and given back inside the op."""
        return max(0, self.peak - self.end)


@dataclass(frozen=True)
class Cut:
    """The allocator at a moment within a phase: its count of births and deaths, its bytes now and at most since the last.

    `pinned`: what torch has pinned of the host by now, in the powers of two that it takes; None where it does not count.
    """

    position: int
    now: Memory
    peak: Memory
    pinned: int | None


class Meter(AbstractContextManager["Meter"], ABC):
    """Measures phases on one device. A context manager: readings are complete only after it has been left."""

    device: torch.device
    stack: Stack
    kind: DeviceKind

    @contextmanager
    @abstractmethod
    def phase(self, name: Phase) -> Iterator[None]:
        """Measure the enclosed code; a repeated name (`warm`) gives a reading of its own."""

    def resident(self, values: Any) -> None:
        """The tensors in `values` are resident from now on. For a device whose allocator does not see all of them."""

    @abstractmethod
    def readings(self) -> tuple[Reading, ...]:
        """One reading a phase, in order. A phase that failed has one too, as far as it came."""

    def cut(self) -> Cut | None:
        """Read the allocator within a phase, and start its peaks anew; None where they cannot be told before the end."""
        return None

    @abstractmethod
    def watch(self) -> Observer:
        """An observer for one call that also reads the allocator around each op."""

    @abstractmethod
    def op_peaks(self) -> list[OpPeak]:
        """What the watch saw, op by op."""

    @abstractmethod
    def stream(self) -> Stream | None:
        """Births and deaths from the first weight to the end of the cold call, attributed by the watch."""

    def describe(self) -> dict[str, Any]:
        """NVML's summary over the whole measurement, JSON-ready; empty where there is no NVML to ask."""
        return {}

    @abstractmethod
    def reasons(self) -> dict[str, str]:
        """Why a quantity is None in every reading, by field name (`device_bytes`, `ooms`)."""
