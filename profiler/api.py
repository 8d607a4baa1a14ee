"""The verbs of the command line that bring several rooms together, as functions, typed records out.

`profiler/__init__.py` says where the others stand. Nothing heavy is imported before it is needed.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from profiler.data.asked import gathered
from profiler.data.records import Estimate, Record
from profiler.data.stack import DeviceName, Stack
from profiler.data.units import MOST_CALLS, check_number
from profiler.data.workload import StageName
from profiler.errors import UserError
from profiler.estimation.calls import ask_stage
from profiler.estimation.worst import worst_of
from profiler.machine.target import target_stack
from profiler.models.attention import noted, with_environment
from profiler.models.find import find_model

if TYPE_CHECKING:
    import pandas as pd

    from profiler.comparison.case import Comparison
    from profiler.comparison.runs import RunDifference
    from profiler.diagnosis.hotspots import Hotspots
    from profiler.diagnosis.profile import Profile
    from profiler.estimation.recorded import Recorded
    from profiler.evidence.accuracy import Known
    from profiler.sweeps.run import Progress, RunOptions

logger = logging.getLogger(__name__)


def estimate(
    model: str,
    stage: StageName = "decode",
    *,
    gpu: str | Path | None = None, torch: str | None = None, cudnn: int | None = None, alloc_conf: str | None = None,
    vram: str | None = None, reserve: str | None = None,
    stack: Stack | None = None,
    cache: bool = True,
    **workload: Any,
) -> Estimate:  # fmt: skip
    """What `stage` of `model` needs on a card, without a GPU.

    `model` is a catalog id, a YAML path, a diffusers folder or a hub id. `workload` takes `frames`, `height`, `width`
    (pixels; default: the published size), `batch`, `dtype`, `text_length`, `options` and `history`; an option may also stand
    alone, as in `tiling=True`. The stack is `stack`, or that of card `gpu` with versions `torch` and `cudnn`; with none of
    them, this machine's card if it has one, else an H200. `gpu` is an id, the name that torch prints, or a card file; with
    `vram` (`"12GiB"`) it has so much memory, and `vram` alone stands for the cards that are sold with it, of which the one
    that needs most answers. `reserve` is kept free for what else is on the card. `alloc_conf` sets up its allocator, in the
    place of `PYTORCH_CUDA_ALLOC_CONF`. With `cache`, what was estimated before is read from disk, and the answer kept there;
    without, the disk is left alone.

    Raises UserError, ModelError.
    """
    spec = find_model(model)  # what a user can mistake comes before torch is imported
    asked = with_environment(spec.workload(stage, **workload), spec)
    from profiler.files.cache import left_alone

    def ask(card: str | Path | None) -> Estimate:
        target, context = target_stack(card, torch, cudnn, stack, alloc_conf, vram, reserve)
        logger.info("asked: %s on %s", asked.key, target.title)
        return noted(ask_stage(asked, spec, target, context))

    with left_alone(not cache):
        return worst_of(vram, ask)[1] if vram is not None and gpu is None and stack is None else ask(gpu)


def make_recording(
    model: str,
    stage: StageName = "decode",
    *,
    gpu: str | Path | None = None, torch: str | None = None, cudnn: int | None = None, alloc_conf: str | None = None,
    stack: Stack | None = None,
    force: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    **workload: Any,
) -> "Recorded":  # fmt: skip
    """Trace `stage` of `model` at a few sizes, so that `estimate` answers at all between without torch, for every card.

    Arguments as for `estimate`. `tell` hears of every trace. The answer has the sizes, the file and its bytes, or the reason
    why there is none. One that is there is left, unless `force`. Raises UserError, also where the file cannot be written.
    """
    spec = find_model(model)
    asked = with_environment(spec.workload(stage, **workload), spec)
    target, _ = target_stack(gpu, torch, cudnn, stack, alloc_conf)
    from profiler.estimation.cache import EstimateCache
    from profiler.estimation.recorded import make_recording as make

    return make(EstimateCache(asked, spec, target), tell, force=force)


def measure(
    model: str,
    stage: StageName = "decode",
    *,
    device: Literal["auto"] | DeviceName = "auto",
    warm_calls: int = 3, timeout: float = 600.0,
    tell: "Callable[[str], None]" = lambda _: None,
    allow_pickle: bool = False, alloc_conf: str | None = None,
    **workload: Any,
) -> Record:  # fmt: skip
    """Run `stage` of `model` with real tensors in a process of its own; the record's `status` says how that ended.

    Arguments as for `estimate`; `timeout` in seconds; `tell` gets the key of what begins; `allow_pickle` reads a folder's
    weights where it has no safetensors. Raises UserError for a workload, option, setting or device that cannot be.
    """
    check_number("timeout", timeout)
    check_number("warm_calls", warm_calls, MOST_CALLS)
    from profiler.machine.probe import probe_stack
    from profiler.measurement.process import measure_in_process
    from profiler.models.weights import weights_format

    spec = replace(find_model(model), allow_pickle=allow_pickle)
    asked = with_environment(spec.workload(stage, **workload), spec)
    weights_format(spec, stage)  # refused here, before a process is made
    tell(asked.key)
    # The date may be set back; a duration is never taken from it.
    started, clock, stack = datetime.now(UTC), time.perf_counter(), probe_stack(device, alloc_conf)
    asked.check_device(stack.device)
    how: dict[str, Any] = {"warm_calls": warm_calls, "timeout": timeout, "alloc_conf": alloc_conf}
    outcome = measure_in_process(asked, spec, stack.device, **how)
    if outcome.failure and outcome.status == "skipped":
        raise UserError(outcome.failure.message)
    return Record(
        key=asked.key,
        workload=asked,
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
        **outcome.of_record(stack),
    )


def run(
    config: str | Path,
    out: str | Path | None = None,
    options: "RunOptions | None" = None,
    tell: "Callable[[Progress], None]" = lambda _: None,
) -> list[Record]:
    """Run a sweep file (a path, or the name of a shipped one) into a folder, resuming what is there; writes the report."""
    from profiler.sweeps.plan import find_sweep, plan_sweep
    from profiler.sweeps.publish import publish
    from profiler.sweeps.run import run_sweep

    plan = plan_sweep(find_sweep(str(config)))
    directory = Path(out) if out is not None else Path("results") / plan.sweep.name
    records = run_sweep(plan, directory, options, tell)
    publish(directory, models=plan.models)
    return records


def hotspots(
    model: str,
    stage: StageName | Literal["generate"] = "decode",
    *,
    gpu: str | Path | None = None, torch: str | None = None, cudnn: int | None = None, alloc_conf: str | None = None,
    vram: str | None = None, reserve: str | None = None,
    device: DeviceName | None = None,
    run: str | Path | None = None,
    remedies: bool = True,
    **workload: Any,
) -> "tuple[Hotspots, Profile]":  # fmt: skip
    """Hot spots of one stage, and the profile that they were read from.

    Without a GPU by default, arguments as for `profiler.estimate`; measured here on `device`, or taken from the run in
    folder `run`. With `stage="generate"` they are those of a whole generation's higher call of two, arguments as for
    `profiler.generate`. Raises UserError, ModelError, and LatentmeterError where a measurement fails.
    """
    named = [value for value in (gpu, vram, reserve, torch, cudnn, run and alloc_conf) if value is not None]
    if sum(map(bool, (device, run, named))) > 1:  # a run has its own stack
        raise UserError("--device, --measured and an estimate's stack (--gpu, --vram, --torch ...) exclude each other")

    def target_of(card: str | Path | None) -> tuple[Stack, int | None]:
        return target_stack(card, torch, cudnn, None, alloc_conf, vram, reserve)

    if stage == "generate":
        if device or run:
            raise UserError("--device and --measured: go with a single stage; a whole generation is estimated")
        from profiler.diagnosis.generation import generation_hotspots
        from profiler.models.pipeline_folder import find_pipeline

        return generation_hotspots(find_pipeline(model), target_of, gpu, vram, remedies=remedies, **gathered(workload))
    spec, said = find_model(model), {}
    asked = with_environment(spec.workload(stage, **workload), spec)
    if vram is not None and gpu is None:
        gpu, found = worst_of(vram, lambda card: ask_stage(asked, spec, *target_of(card)))
        said = {"stack.card": found.notes["stack.card"]}
    from profiler.diagnosis.collect import estimated, measured
    from profiler.diagnosis.hotspots import summarize_with_remedies
    from profiler.diagnosis.sources import measure_events, read_events

    context = None
    if device is None and run is None:
        target, context = target_of(gpu)
        profile, ran = estimated(asked, spec, target, context)
        profile.notes.update(said)
    else:
        where = (device or "cuda", alloc_conf)
        measurement, events = read_events(Path(run), asked) if run else measure_events(asked, spec, *where)
        profile, ran = measured(measurement, spec, events)
    return summarize_with_remedies(profile, spec, ran.module if remedies else None, context), profile


def compare(before: str | Path | Iterable[Record], after: str | Path | Iterable[Record]) -> "RunDifference":
    """Two runs side by side, by folder or by records: what rose, what fell, what is new or missing. See its `to_frame`."""
    from profiler.comparison.runs import difference

    return difference(_records(before), _records(after))


def comparisons(source: str | Path | Iterable[Record], tolerance: float | None = None) -> "list[Comparison]":
    """Estimate against measurement for every record of a run's folder, or of `source` itself. See `to_frame`."""
    from profiler.comparison.case import compare_all

    return compare_all(_records(source), tolerance)


def accuracy(
    sources: Sequence[str | Path] = (),
    *,
    gpu: str | None = None,
    closed_form: bool = False,
    follow: "Callable[[list[Known]], Iterable[Known]]" = iter,
) -> "pd.DataFrame":
    """Every estimate made anew, beside what is known and what others' formulas say: a row a case, sizes in bytes.

    `sources` are run folders, folders of them, or files of published figures (default: `results/reference`); `gpu` keeps
    one card's cases; with `closed_form` cuDNN's plans are left out. `follow` may show progress. Raises UserError.
    """
    from profiler.evidence.accuracy import collect, judge

    return judge(follow(collect(sources or ["results/reference"], gpu)), closed_form=closed_form)


def _records(source: str | Path | Iterable[Record]) -> Iterable[Record]:
    if not isinstance(source, (str, Path)):
        found = list(source) if isinstance(source, Iterable) else [source]
        for one in found:
            if not isinstance(one, Record):
                raise UserError(f"expected the folder of a run, or its records, got {one!r:.60}")
        return found
    from profiler.files.store import open_run

    return open_run(source).records()
