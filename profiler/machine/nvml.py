"""NVML, asked in one place: what the driver sees of a GPU, which is more than torch sees of its own memory.

`query` is the only way to the library (module `pynvml` of the distribution nvidia-ml-py, imported at the first
question). An NVML error becomes a `Value` without a value and with a reason in plain words; nothing here raises for a
missing driver, a lost GPU or a question that a card cannot answer. A GPU is found by its UUID, never by index: CUDA and
NVML number devices differently.

`snapshot` answers once; `sampler.py` follows a measurement. Both give JSON-ready data in which an unknown quantity is None
with its reason under `reasons`. Memory is what the whole device holds, for all processes, in bytes;
`process_bytes` is this process's part, absent where the driver lists no such pid (a container sees other pids than the
driver) or lists it with 0 bytes.
"""

import functools
import os
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MEMORY = ("total_bytes", "reserved_bytes", "free_bytes", "used_bytes")
GAUGES = (*MEMORY, "process_bytes", "others_bytes")

# Constants of nvml.h, part of its binary interface.
_MEMORY_V2 = 0x02000028
_NOT_AVAILABLE = 2**64 - 1
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
    if number in (None, _NOT_AVAILABLE):
        return Value(reason="the driver answers 'not available'")
    if number > total:
        return Value(reason=f"the driver answers {number} bytes, more than the device's {total}")
    return Value(number)


def _memory(handle: Value[Any]) -> dict[str, Value[Any]]:
    """Memory of the device, of the structure that shows the driver's reserved bytes apart, else of the first one."""
    info = _first(("nvmlDeviceGetMemoryInfo", handle, _MEMORY_V2), ("nvmlDeviceGetMemoryInfo", handle))
    total = None if info.value is None else info.value.total
    reason = info.reason
    if info.code == _NOT_SUPPORTED or total == 0:
        reason = f"{reason or 'the driver answers a total of 0'}; with unified memory the numbers are the host's"
    elif total == _NOT_AVAILABLE:
        reason = "the driver answers 'not available' for the total, which the rest is checked against"
    if total is None or reason is not None:
        return dict.fromkeys(MEMORY, Value(reason=reason))
    memory: dict[str, Value[Any]] = {
        name: _checked(getattr(info.value, name.removesuffix("_bytes"), None), total) for name in MEMORY
    }
    if not hasattr(info.value, "reserved"):
        memory["reserved_bytes"] = Value(reason="this driver answers the first memory structure only, without reserved")
    return memory


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


def read_gauges(handle: Value[Any]) -> dict[str, Value[Any]]:
    """All of GAUGES, and `others` (a list of pid and bytes), each a value or a reason."""
    # The list comes before the device's memory: a process that grows in between then stays below `used`.
    listed = _first(*((f"nvmlDeviceGetComputeRunningProcesses_{version}", handle) for version in ("v3", "v2")))
    memory = _memory(handle)
    return memory | _processes(listed, memory["used_bytes"].value)


def snapshot(uuid: str | None) -> dict[str, Any]:
    """One reading of one GPU: `uuid`, `name`, `driver`, all of GAUGES, `others` (list of pid and bytes), and `reasons`."""
    handle = find(uuid)
    values: dict[str, Value[Any]] = {
        "uuid": query("nvmlDeviceGetUUID", handle),
        "name": query("nvmlDeviceGetName", handle),
        "driver": query("nvmlSystemGetDriverVersion"),
        **read_gauges(handle),
    }
    reasons = {name: given.reason for name, given in values.items() if given.reason is not None}
    return {name: given.value for name, given in values.items()} | {"reasons": reasons}


def used_bytes(uuid: str | None) -> Value[int]:
    """Bytes used on the device by all processes, as `snapshot` gives them: for a difference of two moments."""
    return _memory(find(uuid))["used_bytes"]


def devices() -> Value[list[str | None]]:
    """The UUIDs of the GPUs that NVML lists, None for one that tells none; MIG slices are not listed."""
    count = query("nvmlDeviceGetCount")
    if count.value is None:
        return count
    handles = [query("nvmlDeviceGetHandleByIndex", index) for index in range(count.value)]
    return Value([query("nvmlDeviceGetUUID", handle).value for handle in handles])
