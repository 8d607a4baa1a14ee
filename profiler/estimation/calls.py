"""Two verbs: any call over real modules, and a whole generation. Nothing heavy is imported before it is needed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from profiler.data.asked import ALONE, fields_of, gathered
from profiler.data.records import CallEstimate, Estimate
from profiler.data.spans import STAGES
from profiler.data.stack import Stack
from profiler.data.workload import GENERATE, GenerationOptions, MemoryOptions, Placement, Workload
from profiler.errors import UserError, check_kind
from profiler.estimation.worst import worst_of
from profiler.machine.target import target_stack

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from profiler.estimation.placed import Traces
    from profiler.models.pipeline_spec import PipelineSpec
    from profiler.models.spec import ModelSpec
    from profiler.stages.call import Modules
    from profiler.trace.trace import Trace

CALL = (
    *("frames", "height", "width", "steps", "guidance", "prompts", "images_per_prompt", "text_length", "decode_chunk"),
    *("dtype", "lora"),
)
_TURN = RLock()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Threads take turns: a trace changes torch's modules, and the lazy imports of diffusers fail side by side."""
    with _TURN:
        yield


@_one_at_a_time()
def estimate_call(
    function: Callable[..., Any],
    *,
    inputs: "Sequence[Any] | Mapping[str, Any]" = (),
    modules: "Modules | DiffusionPipeline | None" = None,
    placement: Placement | None = None,
    gpu: str | Path | None = None, torch: str | None = None, cudnn: int | None = None, alloc_conf: str | None = None,
    stack: Stack | None = None,
) -> CallEstimate:  # fmt: skip
    """What any call over real modules needs on a card, without a GPU.

    `function` is called once with `inputs`, by position (a sequence) or by name (a mapping), on tensors without data.
    `modules` own the weights: a module, or several by name or in order; by default `function` itself, where it is one.
    Their own weights are untouched, and may lie on `meta`. Module paths in the answer are relative to a single module, and
    begin with the name or number of one of several. It runs without gradients, as diffusers' pipelines do: a training step
    cannot be estimated yet. The stack is named as for `estimate`.

        net = torch.nn.Conv2d(3, 64, 3)
        found = profiler.estimate_call(net, inputs=[torch.empty(1, 3, 512, 512)], gpu="rtx-4090")
        print(found.peak.allocated_bytes, found.terms, found.peak_at)

    A pipeline of diffusers may be the function, or stand in the place of the modules. Then the whole generation is answered,
    load and second call too, by `phases`, with its components where `placement` puts them:

        found = profiler.estimate_call(pipe, inputs={"prompt": "a cat"}, placement=profiler.Placement(offload="model"))
        print([(phase.name, phase.peak.allocated_bytes) for phase in found.phases], found.host)

    Raises UserError for a card that is not known, or where no module is given; ModelError for a call that cannot be traced.
    """
    if not callable(function):
        raise UserError(f"function: expected one, a module or a pipeline, got {function!r:.60}; estimate takes a name")
    if not isinstance(inputs, Sequence | Mapping) or isinstance(inputs, str):
        raise UserError(f"inputs: expected a list or a mapping, got {type(inputs).__name__}; [tensor] for one")
    check_kind("placement", placement, Placement, "Placement(offload='model')")
    target, context = target_stack(gpu, torch, cudnn, stack, alloc_conf)
    from profiler.estimation.own_call import estimate_run
    from profiler.estimation.placed import estimate_with_events
    from profiler.stages.generation import Generation, call_of

    run = call_of(function, inputs, modules, placement)
    if isinstance(run, Generation):
        return estimate_with_events(run, target, context_bytes=context)[0]
    return estimate_run(run, target, context)


def generate(
    pipeline: str,
    stage: str = "generate",
    *,
    placement: Placement | None = None,
    options: MemoryOptions | None = None,
    gpu: str | Path | None = None, torch: str | None = None, cudnn: int | None = None, alloc_conf: str | None = None,
    vram: str | None = None, reserve: str | None = None,
    stack: Stack | None = None,
    cache: bool = True,
    tell: Callable[[str], None] = lambda _: None,
    **call: Any,
) -> CallEstimate:  # fmt: skip
    """What a whole generation of `pipeline` needs on a card, without a GPU: its load and two calls, phase by phase.

    `pipeline` is a catalog id, a diffusers folder or a hub id. `call` takes `frames`, `height`, `width`, `steps`,
    `guidance`, `prompts`, `images_per_prompt`, `text_length`, `decode_chunk`, `dtype`, and `lora`: the safetensors file of
    a LoRA or its folder, or a rank, for one on the layers that diffusers' training scripts adapt, or several of these, all
    active; it is not fused. What belongs to `placement` or `options` may stand alone: `offload="model"`, `tiling=True`. With
    another `stage` the answer has the phases of that alone, of the same generation: `text-encode`, `encode`, `sample` or
    `denoise` (the loop), `decode`, `postprocess`. The card is named as for `estimate`. With `cache` the same question is
    answered from disk the next time. `tell` hears what is done.

    Raises UserError, ModelError.
    """
    from profiler.files.cache import left_alone
    from profiler.models.pipeline_folder import find_pipeline

    if stage not in STAGES:
        raise UserError(f"stage: no stage {stage!r} of a generation; one of {', '.join(STAGES)}")
    call = gathered(call | {"placement": placement, "options": options})
    placement, options = call.pop("placement"), call.pop("options")
    check_call(call, placement, options)
    spec = find_pipeline(pipeline)
    traced: Traces = {}

    def ask(card: str | Path | None, traced: "Traces | None") -> CallEstimate:
        target, context = target_stack(card, torch, cudnn, stack, alloc_conf, vram, reserve)
        asked = (placement or Placement(), options or MemoryOptions(), call, tell, traced)
        with left_alone(not cache):
            return ask_generation(spec, target, context, *asked)

    if vram is not None and gpu is None and stack is None:
        found = worst_of(vram, lambda card: ask(card, traced))[1]
    else:
        found = ask(gpu, None)
    return _only(found, stage)


@_one_at_a_time()
def ask_generation(
    spec: "PipelineSpec",
    stack: Stack,
    context_bytes: int | None,
    placement: Placement,
    options: MemoryOptions,
    call: Mapping[str, Any],
    tell: Callable[[str], None] = lambda _: None,
    traced: "Traces | None" = None,
) -> CallEstimate:
    """The whole generation of `spec` on `stack`: kept from the same question, else estimated and kept.

    `traced` as for `estimate_generation`. Raises UserError, ModelError.
    """
    from profiler.estimation.cache import find_answer, keep_answer
    from profiler.models.attention import environment_backend
    from profiler.models.lora import identity_of

    given = dict(call)
    lora = None if given.get("lora") is None else identity_of(given["lora"])
    question = [
        *(spec.digest, asdict(placement), asdict(options), given | {"lora": lora}, asdict(stack), context_bytes),
        environment_backend(),
    ]
    if (found := find_answer(CallEstimate, question, stack)) is None:
        from profiler.estimation.placed import estimate_generation

        how: dict[str, Any] = {"placement": placement, "options": options, "context_bytes": context_bytes}
        found = estimate_generation(spec, stack, **how, tell=tell, traced=traced, **given)
        keep_answer(question, stack, found)
    return found


def estimate_case(
    workload: Workload, spec: "ModelSpec | PipelineSpec", stack: Stack, *, context_bytes: int | None = None
) -> "tuple[Estimate, Trace]":
    """The estimate of a stage, or of a whole generation, made anew, and its events. Raises UserError, ModelError."""
    from profiler.estimation.estimator import estimate_with_events
    from profiler.estimation.placed import estimate_workload
    from profiler.models.spec import ModelSpec

    if isinstance(spec, ModelSpec):
        return estimate_with_events(workload, spec, stack, context_bytes=context_bytes)
    return estimate_workload(workload, spec, stack, context_bytes=context_bytes)


@_one_at_a_time()
def ask_stage(
    workload: Workload, spec: "ModelSpec", stack: Stack, context_bytes: int | None, traced: dict[Any, Any] | None = None
) -> Estimate:
    """The estimate of a workload on `stack`: kept, replayed from a recording, else traced and kept.

    `traced` as for `estimate`. Raises UserError, ModelError.
    """
    from profiler.estimation.cache import EstimateCache

    known = EstimateCache(workload, spec, stack, context_bytes)
    if found := known.find():
        return found
    from profiler.estimation.estimator import estimate

    found = estimate(workload, spec, stack, context_bytes=context_bytes, traced=traced)
    known.keep(found)
    if why := known.why_traced:
        found.notes["model.recording"] = f"traced: {why}"
    return found


def check_call(call: Mapping[str, Any], placement: Placement | None, options: MemoryOptions | None) -> None:
    """Raise UserError for an argument that no generation has, and for a value that none takes."""
    for name in call:
        if name not in CALL:
            raise UserError(f"{name}: a generation has nothing of this name; it has {', '.join((*CALL, *ALONE))}")
    given: dict[str, Any] = {"frames": 1, "height": 1, "width": 1, "prompts": 1}
    given |= {name: value for name, value in call.items() if value is not None}
    own = {name: given.pop(name) for name in GenerationOptions().call if name in given}
    asked = GenerationOptions(placement=placement or Placement(), **own)
    given |= {"options": options or MemoryOptions(), "batch": given.pop("prompts"), "generation": asked}
    Workload(model="", stage=GENERATE, **fields_of(given))


def _only(found: CallEstimate, stage: str) -> CallEstimate:
    """The answer with the phases of one stage. Raises UserError where the generation has none of them."""
    if not STAGES[stage]:
        return found
    phases = tuple(phase for phase in found.phases if phase.name in STAGES[stage])
    if not phases:
        there = ", ".join(dict.fromkeys(phase.name for phase in found.phases))
        raise UserError(f"stage: this generation has no phase of {stage}; it has {there}")
    note = f"those of {stage}, as they are within a generation; every other figure is the whole generation's"
    return replace(found, phases=phases, notes={"phases": note} | found.notes)
