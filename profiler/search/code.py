"""The code to paste: diffusers' own calls for a setting, the size in the call's keywords."""

import json
from collections.abc import Iterator
from typing import Any

from profiler.data.alloc_conf import OTHER_SINCE, OTHER_VARIABLE, VARIABLE
from profiler.data.workload import VAE_STAGES, DtypeName
from profiler.models.lora import find_lora
from profiler.models.spec import Size
from profiler.search.question import GenerationQuestion, Question, StageQuestion
from profiler.search.setting import Setting
from profiler.search.vae_switches import switches

DTYPES = {"fp32": "torch.float32", "fp16": "torch.float16", "bf16": "torch.bfloat16"}
KERNELS = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "cudnn": "CUDNN_ATTENTION", "math": "MATH"}
APART = {"controlnet": "ControlNetModel", "motion_adapter": "MotionAdapter"}  # in a repository of their own
NO_HUB, NO_LORA = "HUB_ID_OR_FOLDER", "LORA_FILE"


def code_of(question: Question, setting: Setting) -> str:
    """Python that runs the model with `setting`, from the import on."""
    if isinstance(question, GenerationQuestion):
        body = list(_generation(question, setting))
    else:
        assert isinstance(question, StageQuestion)
        body = list(_stage(question, setting))
    return "\n".join([*_before(question, setting), *body])


def _before(question: Question, setting: Setting) -> Iterator[str]:
    stack = setting.stack_of(question.stack)
    if setting.torch is not None:
        yield f"# needs torch {setting.torch} or later"
    if conf := setting.alloc_conf(question.stack):
        name = OTHER_VARIABLE if stack.torch_release >= OTHER_SINCE else VARIABLE
        yield "import os"
        yield ""
        yield f'os.environ["{name}"] = "{conf}"  # before torch is imported'
        yield ""
    yield "import torch"


def _generation(question: GenerationQuestion, setting: Setting) -> Iterator[str]:
    from profiler.models.pipeline import call_arguments

    spec, size = question.spec, question.size
    apart = {name: kind for name, kind in APART.items() if name in spec.components}
    own = {name: _class(question, name, kind) for name, kind in apart.items()}
    yield f"from diffusers import {', '.join([spec.class_name, *own.values()])}"
    given = call_arguments(
        spec,
        size=Size(**size) if spec.default or question.sizes else None,
        prompts=question.batch,
        decode_chunk=setting.decode_chunk,
        **{name: value for name, value in question.call.items() if name != "lora"},
    )
    if pictures := [name for name in (*spec.pictures, *spec.masks) if name in given]:
        yield "from diffusers.utils import load_image"
    yield from _attention_import(setting)
    yield ""
    default = setting.dtype or spec.dtype
    others = {name: dtype for name, dtype in spec.dtypes.items() if dtype != default}
    for name, kind in own.items():
        yield f'{name} = {kind}.from_pretrained("{NO_HUB}", torch_dtype={DTYPES[spec.dtypes.get(name, default)]})'
    hub = (question.model.hub if question.model else None) or spec.origin or NO_HUB
    if "motion_adapter" in own:
        hub = NO_HUB  # that of the adapter is no pipeline's
    loading = [f'"{hub}"', *(f"{name}={name}" for name in own), f"torch_dtype={_dtypes(default, others)}"]
    yield f"pipe = {spec.class_name}.from_pretrained({', '.join(loading)})"
    if lora := question.call.get("lora"):
        file = NO_LORA if isinstance(find_lora(lora), int) else str(lora)
        yield f"pipe.load_lora_weights({json.dumps(file)})  # needs peft"
    yield from _vae_lines("pipe.vae", question, setting)
    if setting.options.attention_backend:
        yield f'pipe.{denoiser_of(spec)}.set_attention_backend("{setting.options.attention_backend}")'
    yield _placed(setting)
    yield ""
    for name in pictures:
        yield f'{name} = load_image("PICTURE").resize(({size["width"]}, {size["height"]}))'
    arguments = ", ".join(f"{name}={_value(name, value, pictures)}" for name, value in given.items())
    indent = "    " if setting.options.attention else ""
    if indent:
        yield f"with {_attention(setting)}:"
    yield f"{indent}result = pipe({arguments})"


def _class(question: GenerationQuestion, name: str, kind: str) -> str:
    part = question.spec.part(name)
    return getattr(part, "class_name", kind)


def denoiser_of(spec: Any) -> str:
    """What a pipeline calls its denoiser."""
    return "unet" if "unet" in spec.components else "transformer"


def _dtypes(default: DtypeName, others: dict[str, DtypeName]) -> str:
    if not others:
        return DTYPES[default]
    named = {"default": default, **others}
    return "{" + ", ".join(f'"{name}": {DTYPES[dtype]}' for name, dtype in named.items()) + "}"


def _value(name: str, value: Any, pictures: list[str]) -> str:
    if name in pictures:
        return name
    if "prompt" in name and isinstance(value, list):
        return '"..."' if len(value) == 1 else f'["..."] * {len(value)}'
    return repr(value)


def _placed(setting: Setting) -> str:
    placement = setting.placement
    if placement.offload == "none":
        return 'pipe.to("cuda")'
    if placement.offload in ("model", "sequential"):
        return f"pipe.enable_{placement.offload}_cpu_offload()"
    switches_on = {
        "use_stream": placement.stream,
        "record_stream": placement.record_stream,
        "low_cpu_mem_usage": placement.low_cpu_mem,
    }
    kind = placement.offload.removeprefix("group-")
    arguments = ['onload_device=torch.device("cuda")', f'offload_type="{kind}_level"', "num_blocks_per_group=1"]
    arguments += [f"{name}=True" for name, on in switches_on.items() if on]
    return f"pipe.enable_group_offload({', '.join(arguments)})"


def _vae_lines(vae: str, question: Question, setting: Setting) -> Iterator[str]:
    options, found = setting.options, switches(question, setting)
    for name, value in found.attributes.items():
        yield f"{vae}.{name} = {value!r}"
    if options.tiling:
        yield f"{vae}.enable_tiling({', '.join(f'{name}={value!r}' for name, value in found.arguments.items())})"
    if options.slicing:
        yield f"{vae}.enable_slicing()"
    if options.channels_last:
        yield f"for weight in {vae}.parameters():"
        yield "    if weight.dim() in (4, 5):"
        yield "        order = torch.channels_last if weight.dim() == 4 else torch.channels_last_3d"
        yield "        weight.data = weight.data.contiguous(memory_format=order)"


def _attention_import(setting: Setting) -> Iterator[str]:
    if setting.options.attention:
        yield "from torch.nn.attention import SDPBackend, sdpa_kernel"


def _attention(setting: Setting) -> str:
    return f"sdpa_kernel(SDPBackend.{KERNELS[setting.options.attention or 'math']})"


def _stage(question: StageQuestion, setting: Setting) -> Iterator[str]:
    spec, stage, workload = question.spec, question.stage, question.workload(setting)
    component = spec.component(stage)
    name = "vae" if stage in VAE_STAGES else "denoiser"
    yield f"from diffusers import {component.class_name}"
    yield from _attention_import(setting)
    yield ""
    hub = spec.hub or spec.origin or NO_HUB
    folder = f'subfolder="{component.subfolder}", ' if component.subfolder else ""
    dtype = f"torch_dtype={DTYPES[workload.dtype]}"
    yield f'{name} = {component.class_name}.from_pretrained("{hub}", {folder}{dtype}).to("cuda")'
    if name == "vae":
        yield from _vae_lines(name, question, setting)
    if setting.options.attention_backend:
        yield f'{name}.set_attention_backend("{setting.options.attention_backend}")'
    latents, pixels = spec.latent.shape(question.batch, workload), spec.latent.pixel_shape(question.batch, workload)
    within = ["torch.no_grad()", *([_attention(setting)] if setting.options.attention else [])]
    yield ""
    yield f"with {', '.join(within)}:"
    if stage == "decode":
        yield f"    pixels = vae.decode(latents, return_dict=False)[0]  # latents: {latents}"
    elif stage in VAE_STAGES:
        yield f"    latents = vae.encode(pixels, return_dict=False)[0]  # pixels: {pixels}"
    else:
        yield f"    ...  # your loop calls denoiser(...); latents: {latents}"
