"""Which attention diffusers calls: the backends of its dispatcher, by option or by the environment's default."""

import json
import os
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from profiler.data.records import Estimate
from profiler.data.workload import BACKENDS, OTHER_BACKENDS, Workload
from profiler.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from profiler.models.spec import ModelSpec

VARIABLE = "DIFFUSERS_ATTN_BACKEND"  # diffusers/utils/constants.py


def dispatched_attention(module: "nn.Module") -> list[Any]:
    """The attention processors that `set_attention_backend` reaches: those that go through diffusers' dispatcher."""
    processors = (getattr(part, "processor", None) for part in module.modules())
    return [processor for processor in processors if hasattr(processor, "_attention_backend")]


def environment_backend() -> Any:
    """The backend that the environment makes diffusers' default; None for native, its own.

    Raises UserError for one that diffusers does not know: it cannot be imported then.
    """
    value = os.environ.get(VARIABLE, "native")
    if value not in (*BACKENDS, *OTHER_BACKENDS):
        raise UserError(f"{VARIABLE}: diffusers has no backend {value!r}; one of {', '.join(BACKENDS)}, or unset it")
    return None if value == "native" else value


def noted(found: Estimate) -> Estimate:
    """`found` with a note where the environment's default is the backend that it is of."""
    backend = environment_backend()
    if backend is None or backend != found.workload.options.attention_backend:
        return found
    return replace(found, notes={"stack.attention_backend": f"{VARIABLE} makes {backend} the default"} | found.notes)


def with_environment(workload: Workload, spec: "ModelSpec") -> Workload:
    """`workload` with the environment's backend as if it had been asked for, where the model's class heeds it.

    Raises UserError for a backend that does not exist or, where it would run, is not modelled.
    """
    backend = environment_backend()
    if backend is None or workload.options.attention_backend is not None:
        return workload
    component = spec.component(workload.stage)
    part = spec.patch_embed().module if workload.stage == "patch-embed" else ""
    if not _dispatches(component.class_name, json.dumps(component.config), part):
        return workload
    try:
        return replace(workload, options=replace(workload.options, attention_backend=backend))
    except UserError as error:
        raise UserError(f"{VARIABLE}={backend}: {error}; attention_backend native leaves it out") from error


@cache
def _dispatches(class_name: str, config: str, part: str) -> bool:
    import torch

    from profiler.models.build import build, component_class

    module = build(component_class(class_name), json.loads(config), torch.bfloat16)
    return bool(dispatched_attention(module.get_submodule(part)))
