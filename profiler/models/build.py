"""Builds a diffusers module as `from_pretrained(torch_dtype=...)` would leave it, with random weights or real ones.

Memory depends on shapes and dtypes, not on values, so a catalog model needs no checkpoint. Parameters are born on `meta`
(no bytes); `materialize` gives them storage on a device in the order in which `Module.to(device)` would.
"""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from math import prod
from typing import Any
from unittest.mock import patch

import torch
from accelerate import init_empty_weights
from torch import nn

from profiler.data.workload import Workload
from profiler.errors import MODEL_FAILURES, ModelError, UserError, first_line
from profiler.models.spec import ModelSpec
from profiler.models.torchvision_resize import provide_resize
from profiler.models.weights import weights_format

TORCH_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LARGE = 4 << 20  # bytes in fp32: of larger tensors no trace knows the content (`trace/known_values.py`)


def build(cls: Any, config: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    """A module of the class `cls`, its parameters on `meta` and its buffers computed on the CPU, in eval mode.

    The class is one of diffusers, or a `PreTrainedModel` of transformers. Raises ModelError where it rejects the config.
    """
    previous = torch.get_default_dtype()
    # Buffers that a class creates without naming a dtype take the loading dtype: from_pretrained sets it so.
    torch.set_default_dtype(dtype)
    try:
        with init_empty_weights(), _nothing_drawn(), _large_tables_on_meta():
            module: nn.Module = _made(cls, config)
        # `init_empty_weights` makes a parameter anew where it is set a second time: transformers' tied ones are tied again.
        getattr(module, "tie_weights", lambda: None)()
    except (ImportError, NameError) as error:
        raise ModelError(f"{cls.__name__} needs a library that is not installed ({error})") from error
    except MODEL_FAILURES as error:
        raise ModelError(f"{cls.__name__} rejects its config: {first_line(error)}") from error
    finally:
        torch.set_default_dtype(previous)
    _cast_as_loaded(module, dtype)
    return module.eval().requires_grad_(False)


def _nothing_drawn() -> Any:
    """Let no random numbers be drawn for what has no data: torch does so in Python, for half the time of a build."""

    def for_data(draw: Any) -> Any:
        return lambda tensor, *args, **kwargs: tensor if tensor.is_meta else draw(tensor, *args, **kwargs)

    return patch.multiple(
        torch.Tensor, uniform_=for_data(torch.Tensor.uniform_), normal_=for_data(torch.Tensor.normal_)
    )


@contextmanager
def _large_tables_on_meta() -> Iterator[None]:
    """Let tables of positions have no data either where they are large, as if they were parameters.

    diffusers computes SD 3.5's in fp64: 1.4 GiB for a moment. Nobody asks what such a table holds.
    """
    from diffusers.models import embeddings

    in_3d = embeddings.get_3d_sincos_pos_embed

    def without_data(usual: Any) -> Any:
        def table(embed_dim: int, size: Any, *args: Any, **kwargs: Any) -> Any:
            rows = size**2 if isinstance(size, int) else prod(size)
            rows *= args[0] if args and usual is in_3d else 1  # frames
            with torch.device("meta") if rows * embed_dim * 4 > LARGE else nullcontext():
                return usual(embed_dim, size, *args, **kwargs)

        return table

    with ExitStack() as patches:
        for name in ("get_2d_sincos_pos_embed", "get_3d_sincos_pos_embed"):
            patches.enter_context(patch.object(embeddings, name, without_data(getattr(embeddings, name))))
        yield


def _made(cls: Any, config: dict[str, Any]) -> Any:
    """As `from_pretrained` makes it. A text model of transformers takes its part of a config with pictures, too."""
    if hasattr(cls, "from_config"):
        return cls.from_config(config)
    own = config.get(cls.config_class.base_config_key)
    return cls(cls.config_class.from_dict(config if own is None else own))


def component_class(name: str) -> Any:
    """The diffusers class `name`. Raises UserError where the installed diffusers has none."""
    import diffusers

    if name == "CosmosTransformer3DModel":
        provide_resize()
    cls = getattr(diffusers, name, None)
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise UserError(f"diffusers {diffusers.__version__} has no model class '{name}'; a newer diffusers may")
    return cls


def constructor_defaults(cls: Any) -> dict[str, Any]:
    """What a config says that leaves everything out: the parameters of the class and their defaults."""
    return {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}


def _cast_as_loaded(module: nn.Module, dtype: torch.dtype) -> None:
    """Give each floating entry of the state dict its loaded dtype.

    diffusers `load_model_dict_into_meta` casts every entry, except those with a dotted part that the class lists in
    `_keep_in_fp32_modules`. Buffers outside the state dict keep the dtype that they were built with. transformers does the
    same, but heeds that list where fp16 is asked for, and only `_keep_in_fp32_modules_strict` in bf16 too
    (`PreTrainedModel._get_dtype_plan`).
    """
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or [])
    if hasattr(module, "_keep_in_fp32_modules_strict"):
        strict = set(getattr(module, "_keep_in_fp32_modules_strict", None) or [])
        kept = strict | kept if dtype == torch.float16 else strict
    for name, tensor in module.state_dict(keep_vars=True).items():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.float32 if kept & set(name.split(".")) else dtype)


def materialize(module: nn.Module, device: torch.device) -> nn.Module:
    """Move `module` to `device`, giving `meta` parameters storage and small random values there.

    One allocation a tensor, children before parents, parameters before buffers: the order of `Module.to`.
    """

    def place(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_meta:
            return tensor.to(device)
        fresh = torch.empty_like(tensor, device=device)
        return fresh.uniform_(-0.02, 0.02) if fresh.is_floating_point() else fresh.zero_()

    module._apply(place)
    return module


def _loaded(cls: Any, spec: ModelSpec, workload: Workload, dtype: torch.dtype) -> nn.Module:
    """The class with its real weights, on the CPU. Raises UserError where there are none that may be read."""
    subfolder = spec.component(workload.stage).subfolder
    # None: diffusers looks for safetensors first, then for a pickle
    is_safe = {"safetensors": True, "pickle": False}.get(weights_format(spec, workload.stage) or "")
    try:
        module: nn.Module = cls.from_pretrained(
            spec.origin, subfolder=subfolder, torch_dtype=dtype, use_safetensors=is_safe
        )
    except OSError as error:
        raise UserError(f"{spec.origin}: the weights cannot be read: {error}") from error
    return module.eval().requires_grad_(False)


def component_module(spec: ModelSpec, workload: Workload, *, weights: bool) -> nn.Module:
    """The module that a workload runs: the VAE, the denoiser, or the denoiser's patch embedding alone.

    `weights=False` builds without data; `weights=True` loads real weights, on the CPU, where the spec has an origin.
    """
    component, dtype = spec.component(workload.stage), TORCH_DTYPES[workload.dtype]
    cls = component_class(component.class_name)
    module = _loaded(cls, spec, workload, dtype) if weights and spec.origin else build(cls, component.config, dtype)
    return module.get_submodule(spec.patch_embed().module) if workload.stage == "patch-embed" else module
