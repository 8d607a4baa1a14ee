"""A denoiser that no catalog model uses: what its forward wants is found from its signature, its config and its layers."""

import inspect
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from math import prod
from typing import Any

from torch import nn

from profiler.data.section import Section
from profiler.errors import UserError
from profiler.files.load import from_dict, read_yaml
from profiler.files.paths import CONFIGS
from profiler.models.spec import Denoiser, LatentContract, ModelSpec, Size, Text

Config = dict[str, Any]
Template = dict[str, Any]
# What most denoisers have, and none says of itself: pixels and frames for each position of the latents.
SPATIAL, TEMPORAL = 8, 4
# Names of the latents' channel count in configs.
CHANNEL_KEYS = ("in_channels", "in_visual_dim", "in_dim", "latent_channel")


@dataclass(frozen=True, kw_only=True)
class ClassEntry(Section):
    """What is known of one class beyond the rules. `config` is one that builds where the class has no defaults."""

    config: dict[str, Any] = field(default_factory=dict)
    grid: list[Any] | None = None
    patch: tuple[int, int, int] | None = None
    default: Size | None = None
    text: Text | None = None
    inputs: Template = field(default_factory=dict)
    leave: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Knowledge(Section):
    """configs/inputs.yaml."""

    widths: dict[str, list[str]]
    names: dict[str, Any]
    always: list[str]
    when: dict[str, str]
    classes: dict[str, ClassEntry]


@cache
def knowledge() -> Knowledge:
    """The file, checked."""
    return from_dict(Knowledge, read_yaml(CONFIGS / "inputs.yaml"))


def class_entry(class_name: str) -> ClassEntry:
    """What the file says of one class; nothing for most."""
    return knowledge().classes.get(class_name, ClassEntry())


def describe_denoiser(module: nn.Module, part: dict[str, Any]) -> ModelSpec:
    """A model of `module` alone, built on `meta`; `part` are its fields as a component.

    What its config cannot say is assumed: the compression of the latents. How long the text is will be asked for. Raises
    UserError where its latents' shape, or a parameter of its forward, cannot be found.
    """
    config: Any = module.config
    name, grid = type(module).__name__, _grid(module, config)
    entry = class_entry(name)
    is_video = "T" in grid or "3D" in name or "Video" in name
    patch = entry.patch or _patch(grid, config)
    text_key = _width("text", config)
    text = Text(encoder="unknown", length=None, dim=config[text_key]) if text_key else None
    channels = config.get(grid[-1] if len(grid) == 3 else grid[1], 1)
    contract = LatentContract(
        layout="BCTHW" if is_video else "BCHW",
        channels=channels // (patch[1] * patch[2]) if "N" in grid else channels,
        spatial_compression=SPATIAL, temporal_compression=TEMPORAL if is_video else 1,
        frame_rule=f"{TEMPORAL}k+1" if is_video else "image",
    )  # fmt: skip
    denoiser = Denoiser(
        **part, patch=patch, multiple_of=pixel_multiple(name, config, SPATIAL, patch),
        inputs=_inputs(module, grid, config), patch_embed="a denoiser alone",
    )  # fmt: skip
    sources = {
        "latent": f"assumed: {SPATIAL}x in space" + (f", {TEMPORAL}x in time" if is_video else ""),
        "denoiser.inputs": "names and defaults of the forward, widths of the config (configs/inputs.yaml)",
    }
    return ModelSpec(
        id=name, name=name, default=entry.default, contract=contract, vae=None, denoiser=denoiser,
        text=entry.text or text, unknown={"vae": "a denoiser alone"}, sources=sources,
    )  # fmt: skip


def _grid(module: nn.Module, config: Config) -> list[Any]:
    """The latents' shape, by what takes their channels first: a convolution, or a linear layer of tokens or patches."""
    name = type(module).__name__
    if entry := class_entry(name).grid:
        return entry
    key = next((key for key in CHANNEL_KEYS if isinstance(config.get(key), int)), None)
    if key is None:
        raise UserError(f"{name}: its config has no channel count; describe the model in a YAML file (docs/models.md)")
    video, image = ["B", key, "T", "H", "W"], ["B", key, "H", "W"]
    size = config.get("patch_size") or 1
    patched = prod(size) if isinstance(size, (tuple, list)) else size**2
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d) and layer.in_channels == config[key]:
            return video
        if isinstance(layer, nn.Conv2d) and layer.in_channels == config[key]:
            return image
        if isinstance(layer, nn.Linear) and layer.in_features == config[key]:
            return ["B", "N", key]
        if isinstance(layer, nn.Linear) and layer.in_features == config[key] * patched:
            return video if "3D" in name else image
    raise UserError(
        f"{name}: no layer takes {config[key]} channels; describe the model in a YAML file (docs/models.md)"
    )


def pixel_multiple(name: str, config: Config, spatial: int, patch: tuple[int, int, int]) -> int:
    """What height and width are multiples of: a position's pixels, whole patches, and a U-Net's halvings between blocks."""
    halvings = len(config.get("block_out_channels", [None])) - 1 if "UNet" in name else 0
    return spatial * max(patch[1:]) * int(2**halvings)


def own_patch(theirs: tuple[int, int, int], their_config: Config, config: Config) -> tuple[int, int, int]:
    """The patch of a denoiser of the class of one with patch `theirs`: the same where both configs say the same of it."""
    same = all(config.get(key) == their_config.get(key) for key in ("patch_size", "patch_size_t"))
    return theirs if same else _patch([], config)


def _patch(grid: list[Any], config: Config) -> tuple[int, int, int]:
    """The patch (t, h, w) that one token stands for, by the config.

    A class that takes tokens and names no patch, as FLUX does, gets them from its pipeline as patches of 2x2 positions.
    """
    size = config.get("patch_size") or 1
    if isinstance(size, (tuple, list)):
        return (1, *size)[-3:] if len(size) == 2 else tuple(size)
    if "N" in grid and size == 1 and config.get(grid[-1], 1) % 4 == 0:
        return (1, 2, 2)
    return (config.get("patch_size_t") or 1, size, size)


def _inputs(module: nn.Module, grid: list[Any], config: Config) -> Template:
    """A template for `module`'s forward. Raises UserError that names every parameter for which none is known."""
    known, entry = knowledge(), class_entry(type(module).__name__)
    found, missing = dict(entry.inputs), []
    for name, parameter in inspect.signature(module.forward).parameters.items():
        needed = parameter.default is parameter.empty
        wanted = needed or any(fnmatch(name, pattern) for pattern in known.always)
        if name in known.when:
            wanted = bool(config.get(known.when[name]))
        if name in found or name in entry.leave or not wanted:
            continue
        template = next((item for pattern, item in known.names.items() if fnmatch(name, pattern)), None)
        filled = {"shape": grid} if template == "grid" else template and _with_widths(template, config)
        if filled:
            found[name] = filled
        elif needed:
            missing.append(name)
    if missing:
        raise UserError(
            f"{type(module).__name__}: nothing is known of what its forward takes as {', '.join(missing)}; "
            "describe the model in a YAML file with `denoiser.inputs` (docs/models.md)"
        )
    return found


def _with_widths(template: Template, config: Config) -> Template | None:
    """The template with widths as entries of this config; None where the config has no such entry."""
    shape = [_width(item, config) if item in knowledge().widths else item for item in template["shape"]]
    return {**template, "shape": shape} if None not in shape else None


def _width(name: str, config: Config) -> str | None:
    return next((key for key in knowledge().widths[name] if isinstance(config.get(key), int)), None)
