"""NVML, asked in one place: what the driver sees of a GPU, which is more than torch sees of its own memory.

`query` is the only way to the library (module `pynvml` of the distribution nvidia-ml-py, imported at the first
question). An NVML error becomes a `Value` without a value and with a reason in plain words; nothing here raises for a
missing driver, a lost GPU or a question that a card cannot answer. A GPU is found by its UUID, never by index: CUDA and
NVML number devices differently.

`snapshot` answers once; `sampler.py` follows a measurement. Both give JSON-ready data in which an unknown quantity is None
with its reason under `reasons`. Memory is what the whole device holds, for all processes;
`process_bytes` is this process's part, absent where the driver lists no such pid (a container sees other pids than the
driver) or lists it with 0 bytes. Bytes are integers; the unit of anything else ends its name.
"""

import functools
import os
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MEMORY = ("total_bytes", "reserved_bytes", "free_bytes", "used_bytes")
GAUGES = (
    *MEMORY, "process_bytes", "others_bytes", "power_mw", "sm_clock_mhz", "memory_clock_mhz", "temperature_c",
)  # fmt: skip

# What holds the clocks down, by NVML's own names, in the order of its bits from 0 on.
THROTTLES = (
    "gpu_idle", "applications_clocks_setting", "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal_slowdown",
    "hw_thermal_slowdown", "hw_power_brake_slowdown", "display_clock_setting", "board_limit", "reliability",
)  # fmt: skip

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
    failures: list[Value[Any]] = []
    for question in questions:
        answer = query(*question)
        if answer.code not in (_NOT_SUPPORTED, _NO_FUNCTION, _OTHER_STRUCT):
            return answer
        failures.append(answer)
    return next((failure for failure in failures if failure.code != _NO_FUNCTION), failures[-1])


def find(uuid: str | None) -> Value[Any]:
    """NVML's handle of the GPU or MIG slice with this UUID, with or without its prefix (torch prints it without)."""
    if uuid is None:
        return Value(reason="the GPU's UUID is not known, and an index would not name the same GPU to NVML")
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
    bits = [bit for bit in range(1, 64) if mask.value >> bit & 1]  # from 1 on: an idle GPU is not held down
    return Value([THROTTLES[bit] if bit < len(THROTTLES) else hex(1 << bit) for bit in bits])


def read_gauges(handle: Value[Any]) -> dict[str, Value[Any]]:
    """All of GAUGES and what stands beside them, each a value or a reason."""
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


def snapshot(uuid: str | None) -> dict[str, Any]:
    """One reading of one GPU: `uuid`, `name`, `driver`, all of GAUGES, `memory_version` (2 or 1),
    `used_includes_reserved`, `others` (list of pid and bytes), `throttle` (list of names), and `reasons`.
    """
    handle = find(uuid)
    return _plain({**_names(handle), "driver": query("nvmlSystemGetDriverVersion"), **read_gauges(handle)})


def used_bytes(uuid: str | None) -> Value[int]:
    """Bytes used on the device by all processes, as `snapshot` gives them: for a difference of two moments."""
    return _memory(find(uuid))["used_bytes"]


def devices() -> Value[list[dict[str, Any]]]:
    """The GPUs that NVML lists, each with `uuid`, `name`, `total_bytes` and `reasons`; MIG slices are not listed."""
    count = query("nvmlDeviceGetCount")
    if count.value is None:
        return count
    handles = [query("nvmlDeviceGetHandleByIndex", index) for index in range(count.value)]
    return Value([_plain({**_names(handle), "total_bytes": _memory(handle)["total_bytes"]}) for handle in handles])
