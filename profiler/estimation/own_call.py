"""The estimate of a call of the user's own, over modules that are given."""

import time

from profiler.data.records import CallEstimate
from profiler.data.stack import Stack
from profiler.errors import MODEL_FAILURES, LatentmeterError, ModelError, kind_and_line
from profiler.estimation.estimator import APART, Tracer, Watched, answered, trace_calls, trace_run
from profiler.machine.environment import check_settings
from profiler.stages.call import Call, attributes_kept
from profiler.trace.placed import PlacedTrace
from profiler.trace.trace import Trace


def estimate_run(run: Call, stack: Stack, context_bytes: int | None) -> CallEstimate:
    """Estimate a call of the user's own, and leave its modules as they were. Raises as `trace_own`."""
    started = time.perf_counter()
    with attributes_kept(run.owners):
        return answered(trace_own(run, stack), stack, context_bytes, started)


def trace_own(run: Call, stack: Stack, on_card: Tracer = PlacedTrace, on_host: Tracer = Trace) -> Watched[Call]:
    """Trace a call of the user's own. On a card, what it brings together has to lie there, as code that runs finds out.

    What lies on the host is most often the weight of a module that was not named. Raises UserError, ModelError.
    """
    if stack.device != "cuda":
        return trace_run(lambda: run, stack, run.name, on_host)
    check_settings(stack)
    try:
        return trace_calls(run, on_card(stack))
    except LatentmeterError:
        raise
    except MODEL_FAILURES as error:
        apart = any(words in str(error) for words in APART)
        hint = ": name every module in `modules`, every tensor in `inputs`, or move it there" * apart
        raise ModelError(f"{run.name}: cannot be traced without data: {kind_and_line(error)}{hint}") from error
