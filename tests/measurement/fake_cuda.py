"""What no test machine has: a CUDA device, as `torch.cuda` and NVML show it. Its books are kept by hand.

Numbers here are made up; that torch and NVML answer so is not tested.
"""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from profiler.machine import live
from profiler.machine.nvml import Value
from profiler.measurement import cuda

UUID = "22222222-2222-2222-2222-222222222222"
MIB = 1 << 20
BLOCK, SEGMENT = 512, 2 * MIB
CONTEXT, OTHERS = 500 * MIB, 100 * MIB

WRITES = (torch.ops.aten.copy_.default, torch.ops.aten.uniform_.default)

OutOfMemoryObserver = Callable[[int, int, int, int], None]


@dataclass
class FakeCuda:
    """A device with books: allocated, reserved (in whole segments), and what the driver shows, in bytes.

    `room` is how much may be allocated, `fault` what goes wrong at the next allocation; `tail` bytes are handed
    out with every block of a tensor. `history` is torch's record of
    allocations, kept while it is switched on.
    """

    allocated: int = 0
    reserved: int = 0
    context: int = 0
    others: int = OTHERS
    retries: int = 0
    calls: list[str] = field(default_factory=list)
    peak: int = 0
    peak_reserved: int = 0
    nvml: bool = True
    room: int | None = None
    fault: Exception | None = None
    tail: int = 0
    observer: OutOfMemoryObserver | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    recording: bool = False
    born: int = 0
    died: int = 0

    def malloc(self, size: int) -> int:
        """Allocate; the address."""
        if self.fault is not None:
            raise self.fault
        if self.room is not None and self.allocated + size > self.room:
            if self.observer is not None:
                self.observer(0, size, self.room, self.room - self.allocated)
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / MIB:.2f} MiB. GPU 0 is full.")
        self.allocated += size
        self.reserved = max(self.reserved, -(-self.allocated // SEGMENT) * SEGMENT)
        self.peak = max(self.peak, self.allocated)
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        self.born += 1
        self.note("alloc", self.born, size)
        return self.born

    def free(self, size: int, address: int = 0) -> None:
        self.allocated -= size
        self.died += 1
        self.note("free_requested", address, size)

    def empty_cache(self) -> None:
        self.calls.append("empty_cache")
        self.reserved = -(-self.allocated // SEGMENT) * SEGMENT
        self.note("segment_free", 0, SEGMENT)

    def init(self) -> None:
        self.calls.append("init")
        self.context = CONTEXT

    def reset(self) -> None:
        self.calls.append("reset")
        self.peak, self.peak_reserved = self.allocated, self.reserved

    def stats(self) -> dict[str, int]:
        current = {"allocated": self.allocated, "reserved": self.reserved, "active": self.allocated, "requested": 1}
        peaks = {"allocated": self.peak, "reserved": self.peak_reserved, "active": self.peak, "requested": 2}
        return (
            {f"{name}_bytes.all.current": value for name, value in current.items()}
            | {f"{name}_bytes.all.peak": value for name, value in peaks.items()}
            | {"num_alloc_retries": self.retries, "num_ooms": 0}
            | {"allocation.all.allocated": self.born, "allocation.all.freed": self.died}
        )

    def used(self, uuid: str | None, pci_bus_id: str | None = None) -> Value[int]:
        return Value(self.others + self.context + self.reserved) if self.nvml else Value(None, "no driver")

    def attach(self, observer: OutOfMemoryObserver) -> None:
        self.observer = observer

    def note(self, action: str, address: int, size: int) -> None:
        if self.recording:
            self.history.append({"action": action, "addr": address, "size": size})

    def record_history(self, enabled: str | None = "all", **_: Any) -> None:
        self.recording = enabled is not None

    def tensors(self) -> AbstractContextManager[Any]:
        """Within it tensors on `cuda` can be made: they have no data, and their storages stand in the books.

        In a build of torch without CUDA they cannot be indexed, nor upsampled: the encoder of tiny-image does neither.
        """
        modes = ExitStack()
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        modes.enter_context(_Books(self, fake))
        modes.enter_context(_Named(fake))
        return modes


class _Named(TorchFunctionMode):
    """Where `cuda` is named, it is card 0, without a question to the real driver, which fake tensors need not."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake = fake

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(torch.device, _indexed, (args, kwargs or {}))
        with self.fake if any(map(_on_cuda, tree_leaves((args, kwargs)))) else nullcontext():
            return func(*args, **kwargs)


def _indexed(device: torch.device) -> torch.device:
    return torch.device("cuda", 0) if device == torch.device("cuda") else device


class _Books(TorchDispatchMode):
    """Runs what touches `cuda` on fake tensors, and notes the birth and the death of every storage there."""

    def __init__(self, device: FakeCuda, fake: FakeTensorMode) -> None:
        super().__init__()
        self.device, self.fake = device, fake
        self.alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(map(_on_cuda, tree_leaves((args, kwargs)))):
            return func(*args, **kwargs)
        if func in WRITES:
            return args[0]  # there are no data to write, and a build without CUDA has no guard for the card
        with self.fake:
            result = func(*args, **kwargs)
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and _on_cuda(made):
                self.enter(made.untyped_storage())
        return result

    def enter(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, -(-storage.nbytes() // BLOCK) * BLOCK
        if key in self.alive or not size:
            return
        size += self.device.tail
        address = self.device.malloc(size)

        def die(_: Any) -> None:
            del self.alive[key]
            self.device.free(size, address)

        self.alive[key] = weakref.ref(storage, die)


def _on_cuda(value: Any) -> bool:
    device = value.device if isinstance(value, torch.Tensor) else value
    return isinstance(device, torch.device) and device.type == "cuda"


class FakeEvent:
    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        pass

    def elapsed_time(self, end: "FakeEvent") -> float:
        return 1500.0


def install(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Put a fake device in the place of the real one."""
    fake = FakeCuda()
    properties = SimpleNamespace(
        name="Fake", major=9, minor=0, multi_processor_count=132, total_memory=1 << 37, uuid=UUID
    )
    for name, function in {
        "init": fake.init,
        "synchronize": lambda: None,
        "reset_peak_memory_stats": fake.reset,
        "memory_stats": fake.stats,
        "mem_get_info": lambda: (7 * MIB, 9 * MIB),
        "Event": FakeEvent,
        "get_device_properties": lambda *_: properties,
        "empty_cache": fake.empty_cache,
        "current_device": lambda: 0,
    }.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", fake.record_history)
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", lambda: {"device_traces": [list(fake.history)]})
    monkeypatch.setattr(torch._C, "_cuda_attach_out_of_memory_observer", fake.attach, raising=False)
    sampler = SimpleNamespace(start=lambda: None, stop=lambda: None, summary=lambda: {"samples": 3})
    monkeypatch.setattr(cuda, "Sampler", lambda *_, **__: sampler)
    monkeypatch.setattr(cuda, "used_bytes", fake.used)
    monkeypatch.setattr(cuda, "devices", lambda: Value([f"GPU-{UUID}"]) if fake.nvml else Value(None, "no"))
    monkeypatch.setattr(cuda, "find", lambda uuid: Value(None, "no driver"))
    monkeypatch.setattr(live, "query", lambda name: Value("580.1"))
    monkeypatch.setattr(
        cuda, "snapshot", lambda uuid: {"used_bytes": fake.used(uuid).value, "process_bytes": None, "reasons": {}}
    )
    return fake
