"""Runs one measurement in a fresh process, with a timeout, and says how it ended.

A process of its own means that no earlier case's cache, fragmentation or broken context reaches this one; a process
group of its own means that nothing of it survives the timeout. What the two tell each other is in memory, in files that
have no name: whoever is killed leaves none, and no disk can be full.
"""

import json
import logging
import os
import signal
import subprocess
from base64 import b64decode
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from profiler.data.records import Failure, Measurement, Phase, Reading, Status
from profiler.data.stack import DeviceName, Stack
from profiler.data.workload import Workload
from profiler.files.load import from_dict, to_dict
from profiler.machine.child import child_command
from profiler.machine.environment import environment_with
from profiler.models.pipeline_spec import PipelineSpec
from profiler.models.spec import ModelSpec

logger = logging.getLogger(__name__)

LOG_LINES = 5
EXIT_FAILED = 3  # the worker itself said why


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a measurement ended. `events` is the content of a file of allocator events, where they were asked for."""

    status: Status
    measurement: Measurement | None = None
    failure: Failure | None = None
    stack: Stack | None = None
    events: bytes | None = None

    def of_record(self, stack: Stack) -> dict[str, Any]:
        """Its fields of a record; `stack` is the machine's, for a measurement that ended before it told of its own."""
        found = {name: getattr(self, name) for name in ("status", "measurement", "failure")}
        return found | {"stack": self.stack or stack}


def measure_in_process(
    workload: Workload,
    spec: ModelSpec | PipelineSpec,
    device: DeviceName,
    *,
    warm_calls: int = 3,
    timeout: float = 600.0,
    log: Path | None = None,
    events: bool = False,
    alloc_conf: str | None = None,
) -> Outcome:
    """Measure `workload` of `spec` in a process of its own. Never raises for what the worker does.

    What it prints goes to `log`, if given; with `events` its allocator's are kept, but not a generation's; `alloc_conf` sets
    up its allocator.
    """
    asked = {
        "workload": asdict(workload),
        "spec": to_dict(spec),
        "device": device,
        "warm_calls": warm_calls,
        "events": events and workload.generation is None,
    }
    environment = environment_with(alloc_conf, device)
    with _in_memory() as request, _in_memory() as progress, log.open("w+b") if log else _in_memory() as output:
        request.write(json.dumps(asked).encode())
        request.seek(0)
        code = _run(request, progress, output, timeout, environment)
        return _outcome(code, _events(progress), timeout, _tail(output))


def _in_memory() -> IO[bytes]:
    return os.fdopen(os.memfd_create("latentmeter"), "w+b")


def _run(
    request: IO[bytes], progress: IO[bytes], output: IO[bytes], timeout: float, environment: dict[str, str]
) -> int | None:
    """The worker's exit code; None if it ran out of time. Its whole group is gone afterwards, whatever happened."""
    command = child_command("profiler.measurement.worker", str(progress.fileno()))
    how: Any = {"stderr": subprocess.STDOUT, "pass_fds": [progress.fileno()], "start_new_session": True}
    with subprocess.Popen(command, stdin=request, stdout=output, env=environment, **how) as process:
        logger.info("worker %d started, at most %g s: %s", process.pid, timeout, " ".join(command))
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError, PermissionError):  # the group has ended
                os.killpg(process.pid, signal.SIGKILL)


def _events(progress: IO[bytes]) -> list[dict[str, Any]]:
    """The worker's events; a last line that was cut off is left out."""
    progress.seek(0)
    return [json.loads(line) for line in progress.read().split(b"\n")[:-1]]


def _outcome(code: int | None, events: list[dict[str, Any]], timeout: float, tail: str) -> Outcome:
    last = {event["event"]: event for event in events}
    phase: Phase = last.get("phase", {}).get("phase", "start")
    stack = from_dict(Stack, last["stack"]["stack"]) if "stack" in last else None
    readings = tuple(from_dict(Reading, e["reading"]) for e in events if e["event"] == "reading")
    logger.info("worker ended with exit code %s after: %s", code, ", ".join(e["phase"] for e in events if "phase" in e))
    if "result" in last:
        measurement = from_dict(Measurement, last["result"]["measurement"])
        kept = b64decode(last["events"]["packed"]) if "events" in last else None
        return Outcome(status="ok", measurement=measurement, stack=measurement.stack, events=kept)
    if code is None:
        failure = Failure(phase=phase, message=f"no result within {timeout:g} s, stopped in phase '{phase}'", log=tail)
        status: Status = "timeout"
    elif code == EXIT_FAILED and "failure" in last:
        failure = replace(from_dict(Failure, last["failure"]["failure"]), log=tail, exit_code=code)
        status = last["failure"]["status"]
    else:
        failure, status = _crash(code, phase, tail), "crash"
    return Outcome(status=status, failure=replace(failure, readings=readings), stack=stack)


def _crash(code: int, phase: Phase, tail: str) -> Failure:
    name = _signal_name(-code) if code < 0 else None
    message = f"the worker {f'was ended by {name}' if name else f'ended with exit code {code}'} in phase '{phase}'"
    if name == "SIGKILL":
        message += "; the kernel's out-of-memory killer ends processes this way"
    elif tail and name is None:
        message += f": {tail.splitlines()[-1]}"
    return Failure(phase=phase, message=message, signal=name, exit_code=code, log=tail)


def _signal_name(number: int) -> str:
    """The name of a signal, or its number: of the real-time signals only the first and the last have names."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    lines = output.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])
