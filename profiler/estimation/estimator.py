"""The estimate: a call is traced on tensors without data, `answer.py` replays its allocations and reads the peak."""

import gc
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from unittest.mock import patch

import torch
import torch._dynamo  # torch imports it at some op's first call; that keeps the callers' frames, and tensors
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from profiler.allocator.histories import Histories
from profiler.data.records import CallEstimate, Estimate
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.errors import MODEL_FAILURES, LatentmeterError, ModelError, kind_and_line
from profiler.estimation.answer import Traced, answer, estimate_of
from profiler.machine.environment import check_settings
from profiler.models.build import component_class
from profiler.models.spec import ModelSpec
from profiler.stages.call import hooks_of
from profiler.stages.options import check_reached
from profiler.stages.phases import Runnable, run_phases
from profiler.stages.stage import Stage
from profiler.trace.trace import Trace

Run = TypeVar("Run", bound=Runnable)
Tracer = Callable[..., Trace]
Kept = dict[Any, list[Any]]  # by what was traced; each has its `trace`
KEPT_EVENTS = 1_000_000  # of traces: some hundred MB
logger = logging.getLogger(__name__)
# Ops that go to cuSOLVER or cuFFT, which tell their work areas on a card alone.
LIBRARIES = (
    *("aten._fft_", "aten.linalg_qr", "aten.linalg_eig", "aten._linalg_eigh", "aten._linalg_svd", "aten.linalg_pinv"),
    *("aten.linalg_inv_ex", "aten.linalg_cholesky_ex", "aten.linalg_lu_factor_ex", "aten._linalg_det", "aten.geqrf"),
)
APART = ("same device", "expected device", "out of meta tensor")  # what torch says of tensors in two places
RECURRENT, IN_EVAL = (nn.RNNBase, nn.RNNCellBase), (nn.TransformerEncoderLayer, nn.MultiheadAttention)
FUSED = "run by fused kernels on a card, here operation by operation: activations and workspace differ"
CAST = "layerwise casting is traced as its hooks run, but was not compared with a card; what it casts is no weight then"
COMPILED = "torch.compile is not covered: what is compiled is estimated as it runs uncompiled"
SWITCHED = "set_autocast_enabled is not followed, so it cast nothing here: `with torch.autocast(...)` is"
FAKE_TENSOR_LOG = logging.getLogger("torch._subclasses.fake_tensor")


@dataclass(frozen=True)
class Watched(Generic[Run]):
    """A call that was traced: what ran, what watched it, the shapes of the outputs, and notes on what was heard."""

    run: Run
    trace: Trace
    output_shapes: tuple[tuple[int, ...], ...]
    heard: dict[str, str]

    @property
    def traced(self) -> Traced:
        """What was found; the notes say what was taken for granted where a model asked for data that follow from weights."""
        notes = {}
        if masks := self.trace.values.masks:
            notes["masks"] = f"masks of unknown content taken as all valid, the worst case; first in {masks[0]}"
        if thresholds := getattr(self.trace, "thresholds", ()):
            notes["thresholds"] = f"a number of the checkpoint is taken as 0; first in {thresholds[0]}"
        if choices := self.trace.values.choices:
            notes["choices"] = f"top-k choices, such as of experts, taken as spread evenly; first in {choices[0]}"
        by_library = (" ".join(op).strip() for op in self.trace.ops if op[1].startswith(LIBRARIES))
        if (unpriced := [*self.trace.unpriced, *by_library]) and self.trace.stack.device == "cuda":
            notes["scratch"] = f"part of a library's workspace is not known, and not counted; first in {unpriced[0]}"
        notes |= self.heard | _not_followed(self.run.module)
        prices, options = self.trace.prices, dict(self.run.options)
        planned = prices.planner.sources, prices.unplanned_bytes
        return Traced(self.trace, self.trace.routes, options, self.output_shapes, notes, *planned)


def estimate(workload: Workload, spec: ModelSpec, stack: Stack, **how: Any) -> Estimate:
    """Estimate `workload` of `spec` on `stack`. `context_bytes` is what CUDA takes outside the allocator, if known.

    `traced` keeps the last traces: asked the same of other segments, one is replayed.
    Raises UserError for a size or option that the model does not allow, ModelError where the model cannot be traced.
    """
    return estimate_with_events(workload, spec, stack, **how)[0]


def estimate_with_events(
    workload: Workload, spec: ModelSpec, stack: Stack, *, context_bytes: int | None = None,
    traced: Kept | None = None,
) -> tuple[Estimate, Trace]:  # fmt: skip
    """The same, and the events that it was read from."""
    workload.check_device(stack.device)
    component_class(spec.component(workload.stage).class_name)  # its import is no part of the estimate's cost
    started = time.perf_counter()
    watched = trace_stage(workload, spec, stack) if traced is None else _kept(traced, workload, spec, stack)
    return estimate_of(answered(watched, stack, context_bytes, started), workload, spec), watched.trace


def replay_stage(workload: Workload, spec: ModelSpec, stack: Stack, context_bytes: int | None = None) -> Histories:
    """The calls that `estimate` tells of, for their peak and whether they fit: its other figures take more replays.

    Raises UserError, ModelError.
    """
    workload.check_device(stack.device)
    return trace_stage(workload, spec, stack).traced.on(stack, context_bytes)


def answered(watched: Watched[Any], stack: Stack, context_bytes: int | None, started: float) -> CallEstimate:
    """The estimate that a trace gives on `stack`; `started` is when work on it began, by `time.perf_counter`."""
    trace, traced = watched.trace, watched.traced
    logger.info("traced %d events in %.2f s", len(trace.events), time.perf_counter() - started)
    logger.info("kernels priced: %s", dict(trace.routes) or "none")
    logger.info("cuDNN's plans by source: %s", trace.prices.planner.answered)
    return answer(traced, traced.on(stack, context_bytes), started=started)


def trace_stage(workload: Workload, spec: ModelSpec, stack: Stack, kind: Tracer = Trace) -> Watched[Stage]:
    """Trace one stage of a model. Raises UserError, ModelError."""
    return trace_run(lambda: Stage(workload, spec), stack, workload.key, kind)


def _kept(traced: Kept, workload: Workload, spec: ModelSpec, stack: Stack) -> Watched[Stage]:
    """The trace in `traced` of the same question but for how segments grow, made where there is none."""
    kept_as = workload, spec.digest, repr(stack.of_any_segments)
    if kept_as not in traced:
        traced[kept_as] = [trace_stage(workload, spec, stack)]
        forget(traced)
    found: Watched[Stage] = traced[kept_as][0]
    return found


def forget(traced: Kept) -> None:
    """Let the oldest go while there are more events than `KEPT_EVENTS`, but not the newest."""
    while len(traced) > 1 and sum(len(one.trace.events) for ones in traced.values() for one in ones) > KEPT_EVENTS:
        del traced[next(iter(traced))]


def trace_run(make: Callable[[], Run], stack: Stack, what: str, kind: Tracer = Trace) -> Watched[Run]:
    """Trace what `make` makes on `meta` tensors; where its code cannot run on them, on fake ones, which are slower.

    `kind` makes the trace, `what` names the call in an error. Raises UserError, ModelError.
    """
    check_settings(stack)
    try:
        return trace_calls(make(), kind(stack))
    except LatentmeterError:
        raise
    except MODEL_FAILURES as error:
        first = error  # a class that mixes its own real tensors with ours, for one
    logger.info("cannot run on meta tensors, fake ones are next: %s", first)
    try:
        FAKE_TENSOR_LOG.disabled = True  # it would print the traceback of an error that is told below
        return trace_calls(make(), kind(stack, "cpu"), FakeTensorMode(allow_non_fake_inputs=True))
    except LatentmeterError:
        raise
    except MODEL_FAILURES as error:
        raise ModelError(f"{what}: cannot be traced without data: {kind_and_line(first)}") from error
    finally:
        FAKE_TENSOR_LOG.disabled = False


def trace_calls(run: Run, trace: Trace, mode: Any = None, warm_calls: int = 0) -> Watched[Run]:
    """Take `run` through its phases under `trace`, within `mode`. What its code raises goes through."""
    run.module  # noqa: B018 - built before the trace looks: building is no part of the call
    try:
        with _undisturbed() as heard, mode or nullcontext():
            shapes = run_phases(run, trace, warm_calls)
        trace.end()
        check_reached(run.asked, trace.ops)
        return Watched(run, trace, shapes, heard)
    finally:
        trace.prices.planner.close()


def _not_followed(root: nn.Module) -> dict[str, str]:
    """Notes on the modules that run otherwise on a card, each with the first of its kind."""
    notes: dict[str, str] = {}
    for path, module in root.named_modules():
        if isinstance(module, RECURRENT) or (isinstance(module, IN_EVAL) and not module.training):
            notes.setdefault("fused", f"{FUSED}; first {type(module).__name__} {path}".rstrip())
        if any(type(hook).__name__ == "LayerwiseCastingHook" for hook in hooks_of(module)):
            notes.setdefault("casting", f"{CAST}; first in {path}")
    return notes


@contextmanager
def _undisturbed() -> Iterator[dict[str, str]]:
    """One thread meanwhile: contents are small, and threads that wait for their part of them take more than the work.

    No garbage collection: one in the middle would free cycles at a moment of its own choosing. No compiler, no autocast but
    by its contexts, of which the notes that are given tell, and no fused layers, of which no rule says what they take.
    """
    threads, was_enabled, switch = torch.get_num_threads(), gc.isenabled(), torch.set_autocast_enabled
    heard: dict[str, str] = {}

    def compile_by(compiler: Any) -> None:  # asked at each call of what torch.compile made
        heard.update({"compile": COMPILED} if compiler else {})

    def switched(*args: Any) -> None:
        by_hand = sys._getframe(1).f_globals.get("__name__") != torch.amp.autocast_mode.__name__
        heard.update({"autocast": SWITCHED} if by_hand else {})
        switch(*args)

    compiles = patch.object(torch._dynamo.eval_frame, "_callback_from_stance", compile_by, create=True)
    switches = patch.object(torch, "set_autocast_enabled", switched)
    unfused = patch.object(torch.backends.cudnn, "is_acceptable", lambda _: False)  # it asks the driver
    fuses = torch.backends.mha.get_fastpath_enabled()
    gc.disable()
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"), compiles, unfused, switches:
            yield heard
    finally:
        torch.set_num_threads(threads)
        torch.backends.mha.set_fastpath_enabled(fuses)
        if was_enabled:
            gc.enable()
