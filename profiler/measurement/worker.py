"""Measures one workload in this process, which does nothing else: a child `profiler.measurement.worker PROGRESS`.

The request is JSON on standard input. PROGRESS is the number of an open file; it gets one flushed JSON line an event
(`stack`, `phase`, `reading`, `failure`, `result`, `events`), so that what was measured before a crash is not lost.
"""

import gc
import json
import os
import re
import sys
import traceback
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

import torch
from torch import nn

from profiler.data.memory import ALLOCATED_TERMS, Memory, Terms
from profiler.data.records import Failure, Measurement, Phase
from profiler.data.units import less
from profiler.data.workload import Workload
from profiler.errors import MODEL_FAILURES, LatentmeterError, UserError, first_line
from profiler.files.load import from_dict
from profiler.files.streams import packed
from profiler.measurement.attribution import attribute
from profiler.measurement.meter import Meter
from profiler.measurement.parts import Parts
from profiler.measurement.process import EXIT_FAILED
from profiler.models.pipeline_spec import PipelineSpec
from profiler.models.spec import ModelSpec
from profiler.models.weights import weights_note
from profiler.stages.generation_options import default_backend
from profiler.stages.generation_ready import generation_of
from profiler.stages.options import check_reached
from profiler.stages.phases import Again, Runnable, Watcher, run_phases
from profiler.stages.stage import Stage

DEVICE_MARKS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "INTERNAL ASSERT")  # the device or torch broke: a crash
NO_KERNEL_MARKS = ("No available kernel", "No viable backend")  # a pinned attention kernel takes no such call
NOT_WATCHED = dict.fromkeys(
    ("terms", "peak_at", *(f"terms.{name}" for name in ALLOCATED_TERMS)),
    "a whole generation is told by phases: no call of it is watched op by op",
)
OOM_MARKS = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


def main() -> None:
    """Read the request, measure, write events; exit code 0 with a result, 3 with a failure."""
    request = json.load(sys.stdin)
    with os.fdopen(int(sys.argv[1]), "a", encoding="utf-8") as stream:
        workload = from_dict(Workload, request["workload"])
        spec: Any = from_dict(PipelineSpec if workload.generation else ModelSpec, request["spec"])
        worker = Worker(workload, spec, request["device"], request["warm_calls"], stream, request["events"])
        sys.exit(0 if worker.run() else EXIT_FAILED)


@dataclass
class Worker(Watcher):
    """One measurement. It watches the phases itself: each is measured by the device's meter and told of."""

    workload: Workload
    spec: ModelSpec | PipelineSpec
    kind: str  # of device: `cuda` or `cpu`
    warm_calls: int
    stream: TextIO
    events: bool = False

    _meter: Meter = field(init=False)
    _parts: Parts | None = field(default=None, init=False)  # of a whole generation
    _phase: Phase = field(default="start", init=False)
    _requested: int | None = field(default=None, init=False)
    _told: int = field(default=0, init=False)  # readings that are written already

    def run(self) -> bool:
        """Measure; True if there is a result. Failures of the workload become events, not tracebacks."""
        try:
            self._meter = self._make_meter()
            self._emit("result", measurement=asdict(self._measure(self._meter)))
            found = self._meter.stream() if self.events else None
            if found:  # after the result, which is safe by now
                self._emit("events", packed=b64encode(packed(found)).decode())
        except torch.OutOfMemoryError as error:
            self._fail("oom", first_line(error), self._requested)
        except (LatentmeterError, *MODEL_FAILURES) as error:
            if any(mark in str(error) for mark in DEVICE_MARKS):
                raise
            traceback.print_exc()
            message = first_line(error)
            status = "oom" if any(mark in str(error) for mark in OOM_MARKS) else "invalid"
            if isinstance(error, UserError):
                status = "skipped"  # it was asked for what this model or device does not take
            elif any(mark in str(error) for mark in NO_KERNEL_MARKS):
                status = "skipped"
                message = f"attention: {message} `latentmeter estimate` says why, and which kernels can"
            self._fail(status, message, parse_requested(str(error)))
        else:
            return True
        return False

    def _make_meter(self) -> Meter:
        self.workload.check_device(self.kind)
        if self.kind == "cpu":
            from profiler.measurement.cpu import CpuMeter

            return CpuMeter()
        from profiler.measurement.cuda import CudaMeter

        meter = CudaMeter(events=self.events)
        # The message has the size that failed to two digits; the allocator tells its observers exactly.
        torch._C._cuda_attach_out_of_memory_observer(self._note_out_of_memory)  # type: ignore[attr-defined]
        return meter

    def _note_out_of_memory(self, device: int, requested: int, total: int, free: int) -> None:
        self._requested = requested

    def _measure(self, meter: Meter) -> Measurement:
        run, notes = self._made(meter)
        watch = None
        try:
            with meter:
                self._emit("stack", stack=asdict(meter.stack))
                shapes = run_phases(run, self, self.warm_calls)
                if isinstance(run, Stage):
                    watch = meter.watch()
                    with self.during("attribution", "activations"):
                        run_phases(Again(run, run.inputs), watch)
                    check_reached(run.asked, watch.ops)
        finally:
            self._tell_readings()
        readings = meter.readings()
        by_phase = {reading.phase: reading for reading in readings}
        peak = by_phase["cold"].peak
        seen = Measurement(
            workload=self.workload,
            stack=meter.stack,
            device_kind=meter.kind,
            baseline=by_phase["inputs"].end,
            peak=peak,
            terms=Terms(
                cached=less(peak.reserved_bytes, peak.allocated_bytes),
                context=less(peak.device_bytes, peak.reserved_bytes),
            ),
            peak_at=None,
            largest=(),
            output_shapes=shapes,
            readings=readings,
            warm=tuple(reading for reading in readings if reading.phase == "warm"),
            attribution_peak_bytes=by_phase["attribution"].peak.allocated_bytes if watch else None,
            nvml=meter.describe(),
            options=dict(run.options),
            phases=self._parts.phases() if self._parts else (),
            pinned_bytes=self._parts.cuts[-1].pinned if self._parts and self._parts.cuts else None,
            notes=_notes(meter.reasons(), peak) | notes,
        )
        return attribute(seen, watch, meter) if watch else seen

    def _made(self, meter: Meter) -> tuple[Runnable, dict[str, str]]:
        """What runs, and notes on it. A whole generation tells of its parts."""
        if isinstance(self.spec, ModelSpec):
            return Stage(self.workload, self.spec, weights=True), weights_note(self.spec, self.workload.stage)
        run = generation_of(self.workload, self.spec, with_data=True)
        run.backend = default_backend(run.pipe, run.asked)
        self._parts = Parts(meter)
        run.heard = self._parts.part
        return run, NOT_WATCHED | run.notes

    @property
    def device(self) -> torch.device:
        return self._meter.device

    @contextmanager
    def during(self, phase: Phase, term: str, module: nn.Module | None = None) -> Iterator[None]:
        """Measure a phase, tell of it before, and on CUDA of its reading after."""
        self._phase = phase
        self._emit("phase", phase=phase)
        watched = self._parts.watched(module) if self._parts and phase != "inputs" else nullcontext()
        with self._meter.phase(phase), watched:
            yield
        self._tell_readings()

    def _tell_readings(self) -> None:
        """Write each reading as soon as it is there: on CUDA at the end of its phase, on the CPU when the meter is left."""
        for reading in self._meter.readings()[self._told :]:
            self._emit("reading", reading=asdict(reading))
            self._told += 1

    def resident(self, values: Any) -> None:
        """What building left behind is collected, so that it does not go in the middle of a later phase."""
        self._meter.resident(values)
        if self._phase == "model":
            gc.collect()

    def empty_cache(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _fail(self, status: str, message: str, requested: int | None) -> None:
        failure = Failure(phase=self._phase, message=message, requested_bytes=requested)
        self._emit("failure", status=status, failure=asdict(failure))

    def _emit(self, event: str, **data: Any) -> None:
        self.stream.write(json.dumps({"event": event, **data}, allow_nan=False) + "\n")
        self.stream.flush()


def parse_requested(message: str) -> int | None:
    """The bytes that an out-of-memory message of the CPU's allocator names."""
    match = re.search(r"you tried to allocate (\d+) bytes", message)
    return int(match.group(1)) if match else None


def _notes(reasons: dict[str, str], peak: Memory) -> dict[str, str]:
    """Why a quantity is None, by its place in the measurement."""
    notes = dict(reasons)
    for name in reasons.keys() & {"reserved_bytes", "device_bytes"}:
        notes |= {f"{moment}.{name}": reasons[name] for moment in ("baseline", "peak")}
    if peak.reserved_bytes is None:
        notes["terms.cached"] = notes["terms.context"] = notes["peak.reserved_bytes"]
    elif peak.device_bytes is None:
        notes["terms.context"] = notes["peak.device_bytes"]
    return notes


if __name__ == "__main__":
    main()
