"""Catalog models at sizes and depths that a test can afford: the contract's smallest clips, one layer of each stack."""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from profiler.models.build import component_class
from profiler.models.catalog import catalog
from profiler.models.find import find_model
from profiler.models.spec import Denoiser, ModelSpec

OPEN = [name for name, spec in catalog().items() if spec.vae or spec.denoiser]
CLOSED = [name for name in catalog() if name not in OPEN]
STACK = re.compile(r"num_((?!decoder|layerwise)\w+_)?(layers|blocks)|n_layers")


def unique(part: str) -> list[str]:
    """The first model of each different `part`, `vae` or `denoiser`: many share a VAE."""
    return _first_of_each(lambda spec: getattr(spec, part))


def unique_calls(part: str) -> list[str]:
    """The first model of each class of `part` and way to call it: siblings differ in width and depth."""

    def call(spec: ModelSpec) -> Any:
        component = getattr(spec, part)
        contract = replace(spec.contract, channels=1, spatial_compression=1) if spec.contract else None
        return component and (component.class_name, getattr(component, "inputs", contract))

    return _first_of_each(call)


def _first_of_each(kind: Callable[[ModelSpec], Any]) -> list[str]:
    found = {str(kind(catalog()[name])): name for name in reversed(OPEN) if kind(catalog()[name])}
    return sorted(found.values())


def shallow(model: str) -> ModelSpec:
    """The catalog's model with stacks of one layer: layers of a stack are alike, so shapes are those of the whole."""
    spec = find_model(model)
    if spec.denoiser is None:
        return spec
    parameters = inspect.signature(component_class(spec.denoiser.class_name)).parameters
    config = spec.denoiser.config | {name: 1 for name in parameters if STACK.fullmatch(name)}
    if "vace_layers" in config:
        config["vace_layers"] = [0]
    if "pos_embed_max_size" in config:
        config["pos_embed_max_size"] = 32  # of Stable Diffusion 3's sines there are gigabytes
    return replace(spec, denoiser=replace(spec.denoiser, config=config))


def small_size(spec: ModelSpec) -> dict[str, Any]:
    """Few frames and pixels that every stage of the model takes, but for sizes that its denoiser fixes."""
    contract, rule = spec.latent, spec.frame_rule("denoise")  # the narrower one
    fixed = {name: getattr(spec.default, name) for name in (spec.denoiser.fixed if spec.denoiser else ())}
    step = spec.denoiser.multiple_of if isinstance(spec.denoiser, Denoiser) else contract.spatial_compression
    return {
        "frames": {"image": 1, "any": 2}.get(rule) or _second(rule),
        "height": _second(contract.height_rule or f"{step}k"),
        "width": _second(contract.width_rule or f"{step}k"),
    } | fixed


def _second(rule: str) -> int:
    """The second size that `<step>k+<first>` allows, or the first where that is more than a step."""
    step, _, first = rule.partition("k")
    start = int(first.strip("+") or step)
    return start if start > int(step) else start + int(step)
