"""Makes a whole generation ready to run: the pipeline is built, its memory options applied, its call put together."""

import inspect
import math
from dataclasses import dataclass, replace
from typing import Any

from profiler.data.records import AppliedOption
from profiler.data.workload import DtypeName, MemoryOptions, Placement, Workload
from profiler.models.lora import load_lora
from profiler.models.pipeline import build_pipeline, call_arguments, pipeline_class, set_guidance
from profiler.models.pipeline_spec import UNPUBLISHED, PipelineSpec
from profiler.stages.generation import Generation, quiet
from profiler.stages.generation_options import apply_to_pipeline, check_sizes

STEPS = 3  # stand for any number: by then the loop's peak has stood, UniPC's too (docs/how-it-works.md, dry runs of 50)


@dataclass(frozen=True)
class Ready:
    """A pipeline that is built, what it is called with, how the memory options that were `asked` were applied, and notes."""

    pipe: Any
    inputs: dict[str, Any]
    asked: MemoryOptions
    options: dict[str, AppliedOption]
    notes: dict[str, str]

    def placed(self, placement: Placement) -> Generation:
        """Its generation, to be run with its components where `placement` puts them."""
        run = Generation(self.pipe, self.pipe, self.inputs, placement)
        run.asked, run.options, run.notes = self.asked, self.options, self.notes
        return run


def generation_of(workload: Workload, spec: PipelineSpec, *, with_data: bool) -> Generation:
    """The generation that `workload` asks of `spec`. Raises UserError, ModelError.

    Run `with_data`, it takes all steps that are asked for; of published ones, as many as an estimate traces.
    """
    asked = workload.generation
    assert asked is not None
    size = {name: getattr(workload, name) for name in ("frames", "height", "width", "text_length")}
    call = size | {"prompts": workload.batch, "exactly": asked.steps if with_data else None} | asked.call
    return made_ready(spec, workload.options, workload.dtype, **call).placed(asked.placement)


def made_ready(
    spec: PipelineSpec,
    options: MemoryOptions,
    dtype: DtypeName | None = None,
    *,
    exactly: int | None = None,
    **call: Any,
) -> Ready:
    """The pipeline that `spec` describes, with `options`.

    `call` are arguments of `call_arguments`, with `frames` and sides alone, and a `lora`; of its steps a few are taken, or
    `exactly` so many. Raises UserError for an argument or option that it does not take.
    """
    sides = {name: call.pop(name, None) for name in ("frames", "height", "width")}
    lora, notes = call.pop("lora", None), dict[str, str]()
    size = spec.default or UNPUBLISHED
    given = {name: value for name, value in sides.items() if value is not None}
    size = replace(size, **given)
    notes["pixels"] = f"{size.frames}x{size.height}x{size.width} (frames, height, width)"
    if given:
        check_sizes(spec, size)
    with quiet():
        pipe = build_pipeline(spec, dtype)
        if lora is not None:
            notes["lora"] = load_lora(pipe, lora)
        applied = apply_to_pipeline(pipe, spec, size, call.get("prompts", 1), options)
        if call.get("guidance") is not None:
            set_guidance(spec, pipe, call["guidance"])
        asked = call.pop("steps", None) or spec.call.get("num_inference_steps")
        steps = exactly or few_steps(spec, asked)
        inputs = call_arguments(spec, size=size, steps=steps, **call)
    note = f"{steps} of {asked} steps stand for all: later ones allocate the same, but for a scheduler's small history"
    return Ready(pipe, inputs, options, applied, notes | ({} if steps == asked else {"steps": note}))


def few_steps(spec: PipelineSpec, asked: int | None = None) -> int | None:
    """As many steps as stand for those `asked` for, or published; None for a pipeline that names none.

    Image to image leaves out the first ones: `strength` is the share that is taken.
    """
    asked = asked or spec.call.get("num_inference_steps")
    taken = inspect.signature(pipeline_class(spec.class_name).__call__).parameters.get("strength")
    given = spec.call.get("strength", taken.default if taken else 1.0)
    return None if asked is None else min(asked, math.ceil(STEPS / (float(given) if given else 1.0)))
