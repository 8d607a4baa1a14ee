"""What the forward of a denoiser class wants: found from its signature and config where no catalog model says it."""

import inspect
from fnmatch import fnmatch
from functools import cache
from math import prod
from typing import Any

from pydantic import Field
from torch import nn

from profiler.errors import UserError
from profiler.files.load import read_yaml
from profiler.files.paths import CONFIGS
from profiler.models.spec import Size, Strict, Text

Template = dict[str, Any]
# Names of the latents' channel count in configs.
CHANNEL_KEYS = ("in_channels", "in_visual_dim", "in_dim", "latent_channel")


class ClassEntry(Strict):
    """What is known of one class beyond the rules. `config` is one that builds where the class has no defaults."""

    config: dict[str, Any] = Field(default_factory=dict)
    grid: list[Any] | None = None
    patch: tuple[int, int, int] | None = None
    default: Size | None = None
    text: Text | None = None
    inputs: Template = Field(default_factory=dict)
    leave: list[str] = Field(default_factory=list)


class Knowledge(Strict):
    """configs/inputs.yaml."""

    widths: dict[str, list[str]]
    names: dict[str, Any]
    always: list[str]
    when: dict[str, str]
    classes: dict[str, ClassEntry]


@cache
def knowledge() -> Knowledge:
    """The file, checked."""
    return Knowledge.model_validate(read_yaml(CONFIGS / "inputs.yaml"))


def class_entry(class_name: str) -> ClassEntry:
    """What the file says of one class; nothing for most."""
    return knowledge().classes.get(class_name, ClassEntry())


def find_inputs(module: nn.Module, grid: list[Any]) -> Template:
    """A template for `module`'s forward. Raises UserError that names every parameter for which none is known."""
    known, entry = knowledge(), class_entry(type(module).__name__)
    config: Any = module.config
    found, missing = dict(entry.inputs), []
    for name, parameter in inspect.signature(module.forward).parameters.items():
        wanted = parameter.default is parameter.empty or any(fnmatch(name, pattern) for pattern in known.always)
        if name in known.when:
            wanted = bool(config.get(known.when[name]))
        if name in found or name in entry.leave or not wanted:
            continue
        template = next((item for pattern, item in known.names.items() if fnmatch(name, pattern)), None)
        filled = {"shape": grid} if template == "grid" else template and _with_widths(template, config)
        if filled:
            found[name] = filled
        elif parameter.default is parameter.empty:
            missing.append(name)
    if missing:
        raise UserError(
            f"{type(module).__name__}: nothing is known of what its forward takes as {', '.join(missing)}; "
            "describe the model in a YAML file with `denoiser.inputs` (docs/models.md)"
        )
    return found


def text_width(module: nn.Module) -> int | None:
    """The width of the text that the class takes, by its config."""
    config: Any = module.config
    key = _width("text", config)
    return config[key] if key else None


def _with_widths(template: Template, config: Any) -> Template | None:
    """The template with widths as entries of this config; None where the config has no such entry."""
    shape = [_width(item, config) if item in knowledge().widths else item for item in template["shape"]]
    return {**template, "shape": shape} if None not in shape else None


def _width(name: str, config: Any) -> str | None:
    return next((key for key in knowledge().widths[name] if isinstance(config.get(key), int)), None)


def find_grid(module: nn.Module) -> list[Any]:
    """The latents' shape, by what takes their channels first: a convolution, or a linear layer of tokens or patches."""
    config: Any = module.config
    name = type(module).__name__
    if entry := class_entry(name).grid:
        return entry
    key = next((key for key in CHANNEL_KEYS if isinstance(config.get(key), int)), None)
    if key is None:
        raise UserError(f"{name}: its config has no channel count; describe the model in a YAML file (docs/models.md)")
    video, image = ["B", key, "T", "H", "W"], ["B", key, "H", "W"]
    size = config.get("patch_size") or 1
    patched = prod(size) if isinstance(size, (tuple, list)) else size**2
    for part in module.modules():
        if isinstance(part, nn.Conv3d) and part.in_channels == config[key]:
            return video
        if isinstance(part, nn.Conv2d) and part.in_channels == config[key]:
            return image
        if isinstance(part, nn.Linear) and part.in_features == config[key]:
            return ["B", "N", key]
        if isinstance(part, nn.Linear) and part.in_features == config[key] * patched:
            return video if "3D" in name else image
    raise UserError(
        f"{name}: no layer takes {config[key]} channels; describe the model in a YAML file (docs/models.md)"
    )
