"""Memory options of a whole generation, applied to the pipeline's own components as its users do it, and read back."""

import copy
from dataclasses import fields, replace
from typing import Any

from profiler.data.records import AppliedOption
from profiler.data.workload import MemoryOptions, Workload
from profiler.errors import UserError
from profiler.models.attention import VARIABLE, dispatched_attention, environment_backend
from profiler.models.catalog import catalog_model
from profiler.models.pipeline_spec import PipelineSpec
from profiler.models.size_rules import check_size
from profiler.models.spec import LatentContract, ModelSpec, Size
from profiler.stages.generation import components
from profiler.stages.options import apply_options

SWITCHES = ("tiling", "slicing", "framewise", "channels_last")
OF_A_STAGE = ("autocast", "benchmark")


def apply_to_pipeline(
    pipe: Any, spec: PipelineSpec, size: Size, prompts: int, options: MemoryOptions
) -> dict[str, AppliedOption]:
    """Apply `options`: an attention backend to every component that has diffusers' attention, the others to the VAE.

    Raises UserError that names each option that cannot be applied, and what there is instead.
    """
    for name in OF_A_STAGE:
        if getattr(options, name):
            others = ", ".join(field.name for field in fields(options) if field.name not in OF_A_STAGE)
            raise UserError(f"{name}: goes with a single stage; a whole generation takes {others}")
    pinned = MemoryOptions(attention=options.attention, attention_backend=options.attention_backend)
    of_vae = replace(options, attention=None, attention_backend=None)
    workload = Workload(
        model=spec.id, stage="decode", frames=size.frames, height=size.height, width=size.width, batch=prompts,
        dtype=spec.dtype_of("vae"), options=of_vae,
    )  # fmt: skip
    applied = {} if of_vae == MemoryOptions() else _to_vae(pipe, spec, workload)
    if options.attention:
        applied["attention"] = AppliedOption(applied=True, detail=f"sdpa_kernel pins {options.attention}")
    if options.attention_backend:
        applied |= _to_attention(pipe, replace(workload, options=pinned), spec)
    return applied


def _to_vae(pipe: Any, spec: PipelineSpec, workload: Workload) -> dict[str, AppliedOption]:
    vae, name = getattr(pipe, "vae", None), type(pipe).__name__
    if vae is None:
        raise UserError(f"{workload.options.key}: {name} has no VAE; leave it out")
    contract = _model(spec).latent
    try:
        return apply_options(vae, workload, contract)
    except UserError as error:
        taken = [switch for switch in SWITCHES if _takes(vae, switch, workload, contract)]
        raise UserError(f"{error}. {type(vae).__name__} takes {' and '.join(taken) or 'none of them'}") from error


def _takes(vae: Any, switch: str, workload: Workload, contract: LatentContract) -> bool:
    """Whether a copy of the VAE, which has no data, takes a switch."""
    asked: dict[str, Any] = {switch: True}
    try:
        return bool(apply_options(copy.deepcopy(vae), replace(workload, options=MemoryOptions(**asked)), contract))
    except UserError:
        return False


def default_backend(pipe: Any, options: MemoryOptions) -> str | None:
    """The attention backend that the environment makes the default of `pipe`; None for diffusers' own.

    Where each component has a backend of its own, or nothing calls attention through diffusers, it is none. Raises
    UserError, as a stage does, for a backend that does not exist, is not modelled, or does not go with `options`.
    """
    backend = environment_backend()
    processors = [one for module in components(pipe).values() for one in dispatched_attention(module)]
    if backend is None or all(processor._attention_backend is not None for processor in processors):
        return None
    try:
        replace(options, attention_backend=backend)
    except UserError as error:
        raise UserError(f"{VARIABLE}={backend}: {error}; attention_backend native leaves it out") from error
    return str(backend)


def check_sizes(spec: PipelineSpec, size: Size) -> None:
    """Raise UserError, with the nearest, for a size of which the pipeline would make another, many without a word.

    A U-Net takes sides that its halvings do not divide, so its pipelines take what the VAE takes.
    """
    try:
        model = _model(spec)
    except UserError:  # nothing says what its VAE takes; what the pipeline itself says of sizes is noted
        return
    multiple = model.latent.spatial_compression
    if model.denoiser and "UNet" not in model.denoiser.class_name:
        multiple = model.denoiser.multiple_of
    check_size("frames", size.frames, model.frame_rule("denoise"), spec.class_name)
    check_size("height", size.height, f"{multiple}k", spec.class_name)
    check_size("width", size.width, f"{multiple}k", spec.class_name)


def _model(spec: PipelineSpec) -> ModelSpec:
    """The model of the pipeline: of the catalog, or as the pipeline's folder says. Raises UserError where that says none."""
    if spec.model:
        return catalog_model(spec.model)
    from profiler.models.folder import read_folder

    return read_folder(str(spec.origin))


def _to_attention(pipe: Any, workload: Workload, spec: PipelineSpec) -> dict[str, AppliedOption]:
    found = {name: module for name, module in components(pipe).items() if dispatched_attention(module)}
    if not found:
        raise UserError(
            f"attention_backend: nothing in {type(pipe).__name__} calls attention through diffusers; --attention pins a "
            "kernel of torch"
        )
    told = [
        f"{name}: {apply_options(module, workload, _model(spec).latent)['attention_backend'].detail}"
        for name, module in found.items()
    ]
    return {"attention_backend": AppliedOption(applied=True, detail="; ".join(told))}
