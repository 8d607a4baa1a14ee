"""The code to paste: diffusers' own calls for a setting, the size in the call's keywords."""

import json
from collections.abc import Iterator
from typing import Any

from profiler.data.alloc_conf import OTHER_SINCE, OTHER_VARIABLE, VARIABLE
from profiler.data.stack import Stack
from profiler.data.workload import VAE_STAGES, Placement
from profiler.models.lora import each_lora, find_lora
from profiler.models.pipeline_spec import PipelineSpec
from profiler.models.spec import Size
from profiler.search.question import GenerationQuestion, Question, StageQuestion
from profiler.search.setting import Setting
from profiler.search.vae_switches import switches

DTYPES = {"fp32": "torch.float32", "fp16": "torch.float16", "bf16": "torch.bfloat16"}
KERNELS = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "cudnn": "CUDNN_ATTENTION", "math": "MATH"}
APART = {"controlnet": "ControlNetModel", "motion_adapter": "MotionAdapter"}  # in a repository of their own
NO_HUB, NO_LORA = "HUB_ID_OR_FOLDER", "LORA_FILE"
CHANNELS_LAST = """for weight in {vae}.parameters():
    if weight.dim() in (4, 5):
        order = torch.channels_last if weight.dim() == 4 else torch.channels_last_3d
        weight.data = weight.data.contiguous(memory_format=order)"""


def code_of(question: Question, setting: Setting) -> str:
    """Python that runs the model with `setting`, from the import on."""
    if isinstance(question, GenerationQuestion):
        body = _generation(question, setting)
    else:
        assert isinstance(question, StageQuestion)
        body = _stage(question, setting)
    return "\n".join([*_environment(setting, setting.stack_of(question.stack)), *body])


def denoiser_of(spec: PipelineSpec) -> str:
    """What a pipeline calls its denoiser."""
    return "unet" if "unet" in spec.components else "transformer"


def _environment(setting: Setting, stack: Stack) -> Iterator[str]:
    """What has to be there before torch is imported, and its import."""
    if setting.torch is not None:
        yield f"# needs torch {setting.torch} or later"
    if conf := stack.alloc_conf:
        name = OTHER_VARIABLE if stack.torch_release >= OTHER_SINCE else VARIABLE
        yield f'import os\n\nos.environ["{name}"] = "{conf}"  # before torch is imported\n'
    yield "import torch"


def _imports(names: list[str], setting: Setting, more: str = "") -> Iterator[str]:
    yield f"from diffusers import {', '.join(names)}"
    if more:
        yield more
    if setting.options.attention:
        yield "from torch.nn.attention import SDPBackend, sdpa_kernel"
    yield ""


def _generation(question: GenerationQuestion, setting: Setting) -> Iterator[str]:
    """A pipeline: its parts, how it is set up, and its call."""
    from profiler.models.pipeline import call_arguments

    spec, size, model = question.spec, question.size, question.model
    given = call_arguments(
        spec,
        size=Size(**size) if spec.default or question.sizes else None,
        prompts=question.batch,
        decode_chunk=setting.decode_chunk,
        **{name: value for name, value in question.call.items() if name != "lora"},
    )
    pictures = [name for name in (*spec.pictures, *spec.masks) if name in given]
    apart = {
        name: getattr(spec.part(name), "class_name", kind) for name, kind in APART.items() if name in spec.components
    }
    load_image = "from diffusers.utils import load_image" if pictures else ""
    yield from _imports([spec.class_name, *apart.values()], setting, load_image)
    default = setting.dtype or spec.dtype
    for name, kind in apart.items():
        yield f'{name} = {kind}.from_pretrained("{NO_HUB}", torch_dtype={DTYPES[spec.dtypes.get(name, default)]})'
    dtypes = {"default": default} | {name: dtype for name, dtype in spec.dtypes.items() if dtype != default}
    told = ", ".join(f'"{name}": {DTYPES[dtype]}' for name, dtype in dtypes.items())
    loading = [f"{name}={name}" for name in apart]
    loading.append(f"torch_dtype={{{told}}}" if len(dtypes) > 1 else f"torch_dtype={DTYPES[default]}")
    hub = (model.hub if model else None) or spec.origin or NO_HUB
    if "motion_adapter" in apart:
        hub = NO_HUB  # that of the adapter is no pipeline's
    yield f'pipe = {spec.class_name}.from_pretrained("{hub}", {", ".join(loading)})'
    loras = each_lora(question.call.get("lora") or ())
    names = [f"lora_{number}" for number, _ in enumerate(loras)] if len(loras) > 1 else []
    for number, lora in enumerate(loras):
        file = json.dumps(NO_LORA if isinstance(find_lora(lora), int) else str(lora))
        named = f', adapter_name="{names[number]}"' if names else ""
        yield f"pipe.load_lora_weights({file}{named})  # needs peft"
    if names:
        yield f"pipe.set_adapters({json.dumps(names)})"
    yield from _vae_lines("pipe.vae", question, setting)
    yield from _backend(f"pipe.{denoiser_of(spec)}", setting)
    yield f"pipe.{_placed(setting.placement)}"
    yield ""
    for name in pictures:
        yield f'{name} = load_image("PICTURE").resize(({size["width"]}, {size["height"]}))'
    arguments = ", ".join(f"{name}={_value(name, value, pictures)}" for name, value in given.items())
    call = f"result = pipe({arguments})"
    yield f"with {kernel}:\n    {call}" if (kernel := _kernel(setting)) else call


def _value(name: str, value: Any, pictures: list[str]) -> str:
    """An argument of the pipeline's call as code; a prompt is the reader's own."""
    if name in pictures:
        return name
    if "prompt" in name and isinstance(value, list):
        return '"..."' if len(value) == 1 else f'["..."] * {len(value)}'
    return repr(value)


def _placed(placement: Placement) -> str:
    """The pipeline's method that puts its components where the placement has them."""
    if placement.offload == "none":
        return 'to("cuda")'
    if placement.offload in ("model", "sequential"):
        return f"enable_{placement.offload}_cpu_offload()"
    kind = placement.offload.removeprefix("group-")
    arguments = ['onload_device=torch.device("cuda")', f'offload_type="{kind}_level"', "num_blocks_per_group=1"]
    switches_on = {
        "use_stream": placement.stream,
        "record_stream": placement.record_stream,
        "low_cpu_mem_usage": placement.low_cpu_mem,
    }
    arguments += [f"{name}=True" for name, on in switches_on.items() if on]
    return f"enable_group_offload({', '.join(arguments)})"


def _vae_lines(vae: str, question: Question, setting: Setting) -> Iterator[str]:
    options, found = setting.options, switches(question, setting)
    for name, value in found.attributes.items():
        yield f"{vae}.{name} = {value!r}"
    if options.tiling:
        yield f"{vae}.enable_tiling({', '.join(f'{name}={value!r}' for name, value in found.arguments.items())})"
    if options.slicing:
        yield f"{vae}.enable_slicing()"
    if options.channels_last:
        yield CHANNELS_LAST.format(vae=vae)


def _backend(denoiser: str, setting: Setting) -> Iterator[str]:
    if backend := setting.options.attention_backend:
        yield f'{denoiser}.set_attention_backend("{backend}")'


def _kernel(setting: Setting) -> str:
    """The context in which attention runs by the kernel that is asked for; empty where none is."""
    kernel = setting.options.attention
    return f"sdpa_kernel(SDPBackend.{KERNELS[kernel]})" if kernel else ""


def _stage(question: StageQuestion, setting: Setting) -> Iterator[str]:
    """A component, how it is set up, and its call."""
    spec, stage, workload = question.spec, question.stage, question.workload(setting)
    component = spec.component(stage)
    name = "vae" if stage in VAE_STAGES else "denoiser"
    yield from _imports([component.class_name], setting)
    hub = spec.hub or spec.origin or NO_HUB
    folder = f'subfolder="{component.subfolder}", ' if component.subfolder else ""
    dtype = f"torch_dtype={DTYPES[workload.dtype]}"
    yield f'{name} = {component.class_name}.from_pretrained("{hub}", {folder}{dtype}).to("cuda")'
    if name == "vae":
        yield from _vae_lines(name, question, setting)
    yield from _backend(name, setting)
    yield ""
    yield f"with {', '.join(filter(None, ['torch.no_grad()', _kernel(setting)]))}:"
    latents, pixels = spec.latent.shape(question.batch, workload), spec.latent.pixel_shape(question.batch, workload)
    if stage == "decode":
        yield f"    pixels = vae.decode(latents, return_dict=False)[0]  # latents: {latents}"
    elif stage in VAE_STAGES:
        yield f"    latents = vae.encode(pixels, return_dict=False)[0]  # pixels: {pixels}"
    else:
        yield f"    ...  # your loop calls denoiser(...); latents: {latents}"
