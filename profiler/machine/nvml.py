"""NVML, asked in one place: what the driver sees of a GPU, which is more than torch sees of its own memory.

`query` is the only way to the library (module `pynvml` of the distribution nvidia-ml-py, imported at the first
question). An NVML error becomes a `Value` without a value and with a reason in plain words; nothing here raises for a
missing driver, a lost GPU or a question that a card cannot answer. A GPU is found by its UUID, never by index: CUDA and
NVML number devices differently.

`snapshot` answers once, `Sampler` follows a measurement from a thread of its own. Both give JSON-ready data in which an
unknown quantity is None with its reason under `reasons`. Memory is what the whole device holds, for all processes;
`process_bytes` is this process's part, absent where the driver lists no such pid (a container sees other pids than the
driver) or lists it with 0 bytes. Bytes are integers; the unit of anything else ends its name.
"""

import functools
import os
import threading
import time
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MEMORY = ("total_bytes", "reserved_bytes", "free_bytes", "used_bytes")
QUANTITIES = (
    *MEMORY,
    "process_bytes",
    "others_bytes",
    "power_mw",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "temperature_c",
)
NOTE = "sampled: each maximum is a lower bound, because what rises and falls between two samples is missed"
PATIENCE_SECONDS = 10.0  # how long a sampler waits for a driver that has stopped answering

# Bits that hold the clocks down, by NVML's own names. Bit 0, an idle GPU, is no throttling and is left out.
THROTTLES = {
    1 << 1: "applications_clocks_setting",
    1 << 2: "sw_power_cap",
    1 << 3: "hw_slowdown",
    1 << 4: "sync_boost",
    1 << 5: "sw_thermal_slowdown",
    1 << 6: "hw_thermal_slowdown",
    1 << 7: "hw_power_brake_slowdown",
    1 << 8: "display_clock_setting",
    1 << 9: "board_limit",
    1 << 10: "reliability",
}

# Constants of nvml.h, part of its binary interface.
_MEMORY_V2 = 0x02000028
_SM_CLOCK, _MEMORY_CLOCK, _GPU_SENSOR = 1, 2, 0
_NOT_AVAILABLE = (2**64 - 1, 2**32 - 1)  # of 8-byte and of 4-byte answers
_INVALID_ARGUMENT, _NOT_SUPPORTED, _NOT_FOUND, _NO_FUNCTION, _OTHER_STRUCT = 2, 3, 6, 13, 25
_WORDS = {
    1: "NVML is not initialised",
    _NOT_SUPPORTED: "not supported by this GPU or its driver",
    4: "no permission to ask",
    _NOT_FOUND: "not found",
    9: "the NVIDIA driver is not loaded",
    12: "the NVML library libnvidia-ml.so.1 cannot be loaded: no NVIDIA driver here",
    _NO_FUNCTION: "unknown to this driver or to this nvidia-ml-py",
    15: "the GPU is lost: it no longer answers on the bus",
    16: "the GPU needs a reset",
    18: "the NVML library and the kernel driver are of two versions: reload the driver or reboot",
}


@dataclass(frozen=True)
class Value(Generic[T]):
    """One answer: a value, or None and the reason. `code` is NVML's error number where it gave one."""

    value: T | None = None
    reason: str | None = None
    code: int | None = None


@functools.cache
def _library() -> Value[Any]:
    """The module `pynvml` with NVML initialised, or the one reason for which nothing can be asked."""
    try:
        import pynvml
    except ImportError:
        return Value(reason="module pynvml is not installed: pip install nvidia-ml-py")
    # The retired distribution is a package with structs of its own age; nvidia-ml-py is a single module.
    if hasattr(pynvml, "__path__") or not hasattr(pynvml, "nvmlMemory_v2"):
        return Value(
            reason="module pynvml is not the one of nvidia-ml-py: pip uninstall pynvml; "
            "pip install --force-reinstall nvidia-ml-py"
        )
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Value(reason=_WORDS.get(error.value, f"NVML does not start: {error}"), code=error.value)
    return Value(pynvml)


def query(function: str, *args: Any) -> Value[Any]:
    """Call `pynvml.<function>(*args)`. An argument that is itself a `Value` without a value hands its reason on."""
    library = _library()
    for given in (library, *args):
        if isinstance(given, Value) and given.reason is not None:
            return given
    pynvml: Any = library.value
    if not hasattr(pynvml, function):
        return Value(reason=f"{_WORDS[_NO_FUNCTION]} ({function})", code=_NO_FUNCTION)
    try:
        answer = getattr(pynvml, function)(*(arg.value if isinstance(arg, Value) else arg for arg in args))
    except pynvml.NVMLError as error:
        return Value(reason=f"{_WORDS.get(error.value, str(error))} ({function})", code=error.value)
    if isinstance(answer, int) and answer in _NOT_AVAILABLE:
        return Value(reason=f"the driver answers 'not available' ({function})")
    return Value(answer)


def _first(*questions: tuple[Any, ...]) -> Value[Any]:
    """The answer to the first question that this driver knows; newer functions are asked before older ones."""
    failure: Value[Any] | None = None
    for question in questions:
        answer = query(*question)
        if answer.code not in (_NOT_SUPPORTED, _NO_FUNCTION, _OTHER_STRUCT):
            return answer
        if failure is None or failure.code == _NO_FUNCTION:
            failure = answer
    assert failure is not None
    return failure


def find(uuid: str | None, pci_bus_id: str | None = None) -> Value[Any]:
    """NVML's handle of the GPU or MIG slice with this UUID, with or without its prefix (torch prints it without).

    `pci_bus_id` ("00000000:01:00.0") is used only where the UUID is None: it names the card, never a slice of it.
    """
    if uuid is None and pci_bus_id is None:
        return Value(reason="the GPU's UUID is not known, and an index would not name the same GPU to NVML")
    if uuid is None:
        return query("nvmlDeviceGetHandleByPciBusId", pci_bus_id)
    for name in [uuid] if uuid.startswith(("GPU-", "MIG-")) else [f"GPU-{uuid}", f"MIG-{uuid}"]:
        handle = query("nvmlDeviceGetHandleByUUID", name)
        if handle.code not in (_NOT_FOUND, _INVALID_ARGUMENT):
            return handle
    return Value(reason=f"NVML knows no GPU with UUID {uuid}", code=_NOT_FOUND)


def _checked(number: int | None, total: int) -> Value[int]:
    if number is None or number in _NOT_AVAILABLE:
        return Value(reason="the driver answers 'not available'")
    if number > total:
        return Value(reason=f"the driver answers {number} bytes, more than the device's {total}")
    return Value(number)


def _memory(handle: Value[Any]) -> dict[str, Value[Any]]:
    """Memory of the device and the version that answered: 2, which shows the driver's reserved bytes apart, else 1."""
    info = _first(("nvmlDeviceGetMemoryInfo", handle, _MEMORY_V2), ("nvmlDeviceGetMemoryInfo", handle))
    total = None if info.value is None else info.value.total
    reason = info.reason
    if info.code == _NOT_SUPPORTED or total == 0:
        reason = f"{reason or 'the driver answers a total of 0'}; with unified memory the numbers are the host's"
    elif total in _NOT_AVAILABLE:
        reason = "the driver answers 'not available' for the total, which the rest is checked against"
    if total is None or reason is not None:
        return dict.fromkeys((*MEMORY, "memory_version", "used_includes_reserved"), Value(reason=reason))
    version = 2 if hasattr(info.value, "reserved") else 1
    memory: dict[str, Value[Any]] = {"memory_version": Value(version)}
    for name in MEMORY:
        memory[name] = _checked(getattr(info.value, name.removesuffix("_bytes"), None), total)
    if version == 1:
        memory["reserved_bytes"] = Value(reason="this driver answers the first memory structure only, without reserved")
    memory["used_includes_reserved"] = _used_includes_reserved(memory)
    return memory


def _used_includes_reserved(memory: dict[str, Value[Any]]) -> Value[bool]:
    """Drivers and their documents disagree on whether `used` counts reserved bytes: the sum of the parts decides."""
    total, reserved, free, used = (memory[name].value for name in MEMORY)
    if used is None or free is None:
        return Value(reason="used or free is not known")
    if reserved == 0:
        return Value(reason="nothing is reserved, so used is the same either way")
    if used + free == total:
        return Value(True)
    if reserved is not None and used + reserved + free == total:
        return Value(False)
    return Value(reason="neither used + free nor used + reserved + free is the total")


def _processes(listed: Value[Any], used: int | None) -> dict[str, Value[Any]]:
    """This process's bytes and everyone else's, from the driver's list of compute processes.

    Bytes above the device's `used` are not believed (drivers and structs out of step); where `used` is unknown, only 0.
    """
    if listed.value is None:
        return dict.fromkeys(("process_bytes", "others_bytes", "others"), Value(reason=listed.reason))
    sizes = {entry.pid: entry.usedGpuMemory for entry in listed.value}
    believed = {pid: size if size and (used is None or size <= used) else None for pid, size in sizes.items()}
    pid = os.getpid()
    ours: Value[int] = Value(believed.pop(pid, None))
    others: Value[int] = Value(sum(size or 0 for size in believed.values()))
    if pid not in sizes:
        ours = Value(
            reason=f"pid {pid} is not among the {len(sizes)} processes that the driver lists: it holds nothing on this "
            "GPU yet, or runs in a container, while the driver lists pids of the host"
        )
        others = Value(reason=f"pid {pid} is not listed, so this process may be one of the others")
    elif ours.value is None:
        shown = "no size" if sizes[pid] is None else f"{sizes[pid]} bytes"
        ours = Value(reason=f"the driver lists pid {pid} with {shown}, while {used} bytes are used on the device")
    if others.value is not None and None in believed.values():
        others = Value(reason="the driver gives no credible bytes for some of the other processes")
    plain = [{"pid": other, "bytes": size} for other, size in believed.items()]
    return {"process_bytes": ours, "others_bytes": others, "others": Value(plain)}


def _throttles(handle: Value[Any]) -> Value[list[str]]:
    """Names of the reasons that hold the clocks down at this moment; an empty list is a GPU that runs free."""
    mask = _first(
        ("nvmlDeviceGetCurrentClocksEventReasons", handle), ("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    )
    if mask.value is None:
        return mask
    return Value([THROTTLES.get(1 << n, hex(1 << n)) for n in range(1, 64) if mask.value >> n & 1])


def _read(handle: Value[Any]) -> dict[str, Value[Any]]:
    # The list comes before the device's memory: a process that grows in between then stays below `used`.
    listed = _first(
        ("nvmlDeviceGetComputeRunningProcesses_v3", handle), ("nvmlDeviceGetComputeRunningProcesses_v2", handle)
    )
    memory = _memory(handle)
    return {
        **memory,
        **_processes(listed, memory["used_bytes"].value),
        "power_mw": query("nvmlDeviceGetPowerUsage", handle),
        "sm_clock_mhz": query("nvmlDeviceGetClockInfo", handle, _SM_CLOCK),
        "memory_clock_mhz": query("nvmlDeviceGetClockInfo", handle, _MEMORY_CLOCK),
        "temperature_c": _first(
            ("nvmlDeviceGetTemperatureV", handle, _GPU_SENSOR), ("nvmlDeviceGetTemperature", handle, _GPU_SENSOR)
        ),
        "throttle": _throttles(handle),
    }


def _names(handle: Value[Any]) -> dict[str, Value[Any]]:
    return {"uuid": query("nvmlDeviceGetUUID", handle), "name": query("nvmlDeviceGetName", handle)}


def _plain(values: dict[str, Value[Any]]) -> dict[str, Any]:
    """Values as JSON-ready data: each one's value or None, and the reasons of the absent ones under `reasons`."""
    data: dict[str, Any] = {name: given.value for name, given in values.items()}
    return data | {"reasons": {name: given.reason for name, given in values.items() if given.reason is not None}}


def snapshot(uuid: str | None, pci_bus_id: str | None = None) -> dict[str, Any]:
    """One reading of one GPU: `uuid`, `name`, `driver`, all of QUANTITIES, `memory_version` (2 or 1),
    `used_includes_reserved`, `others` (list of pid and bytes), `throttle` (list of names), and `reasons`.
    """
    handle = find(uuid, pci_bus_id)
    return _plain({**_names(handle), "driver": query("nvmlSystemGetDriverVersion"), **_read(handle)})


def used_bytes(uuid: str | None, pci_bus_id: str | None = None) -> Value[int]:
    """Bytes used on the device by all processes, as `snapshot` gives them: for a difference of two moments."""
    return _memory(find(uuid, pci_bus_id))["used_bytes"]


def devices() -> Value[list[dict[str, Any]]]:
    """The GPUs that NVML lists, each with `uuid`, `name`, `total_bytes` and `reasons`; MIG slices are not listed."""
    count = query("nvmlDeviceGetCount")
    if count.value is None:
        return count
    handles = [query("nvmlDeviceGetHandleByIndex", index) for index in range(count.value)]
    return Value([_plain({**_names(handle), "total_bytes": _memory(handle)["total_bytes"]}) for handle in handles])


class Sampler:
    """Reads one GPU every `interval_seconds` from a daemon thread, between `start` and `stop` or in a `with` block.

    The first sample is taken by `start` and the last by `stop`, in the caller's thread, so a short block has two. Runs
    once. NVML that fails midway, or is not there at all, leaves reasons in `summary`, never an exception.
    """

    def __init__(self, uuid: str | None, pci_bus_id: str | None = None, interval_seconds: float = 0.02) -> None:
        if not interval_seconds > 0:
            raise ValueError(f"interval_seconds: expected a positive number, got {interval_seconds!r}")
        self._interval = interval_seconds
        self._handle = find(uuid, pci_bus_id)
        self._samples = 0
        self._sampled_at: float | None = None
        self._largest_gap: float | None = None
        self._ranges: dict[str, tuple[int, int, int, int]] = {}  # first, lowest, highest, last
        self._facts: dict[str, Any] = {}  # last known value of what is no quantity
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

    def __enter__(self) -> "Sampler":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        now = time.perf_counter()
        reading = _read(self._handle)
        with self._lock:
            self._add(reading, now)

    def _add(self, reading: dict[str, Value[Any]], now: float) -> None:
        if self._sampled_at is not None:
            self._largest_gap = max(self._largest_gap or 0.0, now - self._sampled_at)
        self._facts.setdefault("others_at_start", reading["others"].value)
        for name, given in reading.items():
            if given.value is None:
                self._absent[name] = (self._absent.get(name, (0, ""))[0] + 1, given.reason or "")
            elif name in QUANTITIES:
                first, low, high, _ = self._ranges.get(name, (given.value,) * 4)
                self._ranges[name] = (first, min(low, given.value), max(high, given.value), given.value)
            elif name == "throttle":
                self._facts[name] = sorted({*self._facts.get(name, ()), *given.value})
            else:
                self._facts[name] = given.value
        self._samples, self._sampled_at = self._samples + 1, now

    def summary(self) -> dict[str, Any]:
        """What was seen, JSON-ready: each of QUANTITIES as `{min, max, last}` or None (`last`: the last known value).

        Beside them `samples`, `interval_seconds` as asked and `largest_gap_seconds` as seen (None for one sample),
        `note`, `memory_version`, `used_includes_reserved`, `throttle` (all names seen), `others` (lists of pid and
        bytes at `start` and `end`), their `others_drift_bytes`, and `reasons` of whatever was absent in any sample.
        """
        with self._lock:
            return self._summary()

    def _summary(self) -> dict[str, Any]:
        reasons = {
            name: reason if count == self._samples else f"absent in {count} of {self._samples} samples: {reason}"
            for name, (count, reason) in self._absent.items()
        }
        drift = None
        if "others_bytes" in self._ranges:
            first, _, _, last = self._ranges["others_bytes"]
            drift = last - first
        elif "others_bytes" in reasons:
            reasons["others_drift_bytes"] = reasons["others_bytes"]
        if self._samples == 0:
            reasons = dict.fromkeys((*QUANTITIES, "throttle", "others_drift_bytes"), "no sample was taken")
        if self._stopping.is_set() and self._thread.is_alive():
            reasons["samples"] = f"the driver stopped answering: its last call took over {PATIENCE_SECONDS} s"
        ranges = {name: dict(zip(("min", "max", "last"), seen[1:], strict=True)) for name, seen in self._ranges.items()}
        return {
            "samples": self._samples,
            "interval_seconds": self._interval,
            "largest_gap_seconds": self._largest_gap,
            "note": NOTE,
            "memory_version": self._facts.get("memory_version"),
            "used_includes_reserved": self._facts.get("used_includes_reserved"),
            **{name: ranges.get(name) for name in QUANTITIES},
            "throttle": self._facts.get("throttle"),
            "others": {"start": self._facts.get("others_at_start"), "end": self._facts.get("others")},
            "others_drift_bytes": drift,
            "reasons": reasons,
        }
