"""What is known of one model: its components, its latent contract, its published size. Read from YAML.

A file of a user's that does not fit is refused with all its errors at once, each with its place: the types say what fits,
and `Section` turns a misspelt key into an error instead of a silent default.
"""

import re
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Annotated, Any, Literal

from profiler.data.asked import fields_of
from profiler.data.latent import Layout, to_layout
from profiler.data.section import Limit, PositiveInt, Section, digest_of
from profiler.data.units import ceil_div, format_bytes, round_up
from profiler.data.workload import VAE_STAGES, DtypeName, MemoryOptions, StageName, Workload
from profiler.errors import UserError
from profiler.files.load import from_dict
from profiler.models.size_rules import FRAME_RULE, SIZE_RULE, check_size

# `scale`: (z - shift) * scale by the VAE config's factors. `mean-std`: (z - mean) / std per channel, by `latents_mean` and
# `latents_std` of the config or of buffers. `batch-norm`: by the running statistics of a BatchNorm over 2x2 patches.
Normalization = Literal["scale", "mean-std", "batch-norm", "none"]
FrameRule = Annotated[str, Limit(pattern=FRAME_RULE)]
SizeRule = Annotated[str, Limit(pattern=SIZE_RULE)]


@dataclass(frozen=True, kw_only=True)
class Size(Section):
    """A clip or image in pixels."""

    frames: PositiveInt = 1
    height: PositiveInt
    width: PositiveInt


@dataclass(frozen=True, kw_only=True)
class LatentContract(Section):
    """How pixels become latents, as the VAE itself does it. Sizes are pixels.

    `frame_rule`: `image` (one frame), `any`, or `<step>k` and `<step>k+<first>` for k = 0, 1, ...; `height_rule` and
    `width_rule` likewise, where a VAE stage takes fewer sizes than the multiples of its compression. `window`: frames
    that are compressed on their own, where clips are cut (MiniMax-H3). `decode_batch`: latent frames that decode at a time;
    of a multiple of it none stands for a single pixel frame (CogVideoX: 8 give 32 frames, not 29). `decode_layout`: that of
    decoded pixels where it is not `layout` (Allegro). `patch`: that of a denoiser which the model's file does not describe.
    """

    layout: Layout
    channels: PositiveInt
    pixel_channels: PositiveInt = 3
    spatial_compression: PositiveInt
    temporal_compression: PositiveInt = 1
    frame_rule: FrameRule = "image"
    height_rule: SizeRule | None = None
    width_rule: SizeRule | None = None
    window: PositiveInt | None = None
    decode_batch: PositiveInt | None = None
    decode_layout: Layout | None = None
    normalization: Normalization = "scale"
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1)

    def latent_frames(self, frames: int) -> int:
        """Latent frames of `frames` pixel frames, window by window; a causal VAE's r*k + 1 frames give k + 1."""
        window = self.window or frames
        whole, rest = divmod(frames, window)
        return whole * ceil_div(window, self.temporal_compression) + ceil_div(rest, self.temporal_compression)

    def shape(self, batch: int, size: Size | Workload) -> tuple[int, ...]:
        """The VAE's latent shape; without T in layout `BCHW`, where each frame is a row of its own."""
        height, width = size.height // self.spatial_compression, size.width // self.spatial_compression
        if self.layout == "BCHW":
            return (batch * size.frames, self.channels, height, width)
        return (batch, self.channels, self.latent_frames(size.frames), height, width)

    def pixel_shape(self, batch: int, size: Size | Workload) -> tuple[int, ...]:
        """The pixels that the VAE takes: (B, C, F, H, W), or (B*F, C, H, W) for layout `BCHW`."""
        if self.layout == "BCHW":
            return (batch * size.frames, self.pixel_channels, size.height, size.width)
        return (batch, self.pixel_channels, size.frames, size.height, size.width)

    def decoded_shape(self, batch: int, size: Size | Workload) -> tuple[int, ...]:
        """The pixels that the VAE gives back."""
        shape, latent = list(self.pixel_shape(batch, size)), self.latent_frames(size.frames)
        if self.decode_batch and latent % self.decode_batch == 0:
            shape[2] = latent * self.temporal_compression
        return to_layout(shape, self.layout, self.decode_layout or self.layout)


@dataclass(frozen=True, kw_only=True)
class Component(Section):
    """One diffusers class with its config. `parameters` is the published element count, where one is."""

    class_name: str
    config: dict[str, Any]
    dtype: DtypeName
    subfolder: str
    parameters: PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class Vae(Component):
    """An autoencoder, or a decoder alone. `tiling: always` where the class runs with tiles only, or unless told not to."""

    tiling: Literal["optional", "always"] = "optional"


@dataclass(frozen=True, kw_only=True)
class PatchEmbed(Section):
    """The denoiser's patch embedding: a submodule's dotted path and its positional inputs."""

    module: str
    inputs: list[Any]


@dataclass(frozen=True, kw_only=True)
class Denoiser(Component):
    """A transformer or U-Net and what one forward wants. `inputs` is a template; see `template.py` for its symbols.

    `window`: latent frames of one forward, for a model that denoises a clip window by window. `frame_rule`: the frames that
    its pipeline takes, where they are not those of the VAE (CogVideoX: 8k+1, its VAE: 4k+1). `fixed`: sizes that must be the
    default ones, as learned positions are. `patch_embed` is text where no submodule is the patch embedding: the reason.
    """

    window: PositiveInt | None = None
    frame_rule: FrameRule | None = None
    fixed: tuple[Literal["frames", "height", "width"], ...] = ()
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1)
    multiple_of: PositiveInt
    guidance: Literal["batched", "sequential", "distilled", "none"] = "none"
    inputs: dict[str, Any]
    patch_embed: PatchEmbed | str


@dataclass(frozen=True, kw_only=True)
class Text(Section):
    """Text conditioning: token count, None where it has to be asked for, and width."""

    encoder: str
    length: PositiveInt | None
    dim: PositiveInt


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Section):
    """One model. `origin` is set where weights can be loaded from: a folder or a hub id; by pickle only if the user says so.

    `reference` is the text by which the model is found again, where that is not its id: a path or a hub id. `unknown`
    says why a part is null: a closed model has no VAE and no denoiser, and a latent contract only where one is published.
    """

    id: str
    name: str
    family: str | None = None
    hub: str | None = None
    default: Size | None = None
    contract: LatentContract | None
    vae: Vae | None
    denoiser: Denoiser | None = None
    text: Text | None = None
    unknown: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    origin: str | None = None
    allow_pickle: bool = False
    reference: str | None = None

    @property
    def digest(self) -> str:
        """Twelve hex digits over the whole description."""
        return digest_of(asdict(replace(self, allow_pickle=False)))

    @property
    def kind(self) -> Literal["image", "video"]:
        """By the published size, or by the frames that the contract allows."""
        if self.default is not None:
            return "image" if self.default.frames == 1 else "video"
        return "image" if self.contract is not None and self.contract.frame_rule == "image" else "video"

    @property
    def latent(self) -> LatentContract:
        """The latent contract. Raises UserError where none is published."""
        if self.contract is None:
            raise UserError(f"model '{self.id}' has no latent contract: {self.unknown.get('latent', 'none is given')}")
        return self.contract

    def component(self, stage: StageName) -> Component:
        """The component that `stage` runs. Raises UserError where the model has no such component."""
        name, found = ("VAE", self.vae) if stage in VAE_STAGES else ("denoiser", self.denoiser)
        if found is None:
            reason = self.unknown.get(name.lower())
            others = "encode, decode and roundtrip work" if self.vae else "patch-embed and denoise work"
            raise UserError(
                f"model '{self.id}' describes no {name}{f' ({reason})' if reason else ''}: stage '{stage}' needs one"
                + (f"; stages {others}" if self.vae or self.denoiser else "")
            )
        return found

    def reads(self, stage: StageName, symbol: str) -> bool:
        """Whether the inputs of `stage` are made with the template's `symbol`, as L for the length of a text."""
        if stage in VAE_STAGES or self.denoiser is None:
            return False
        template = self.patch_embed().inputs if stage == "patch-embed" else self.denoiser.inputs
        return re.search(rf"\b{symbol}\b", str(template)) is not None

    def patch_embed(self) -> PatchEmbed:
        """The denoiser's patch embedding. Raises UserError where it has none that can run alone."""
        found = self.denoiser.patch_embed if self.denoiser else "no denoiser is described"
        if isinstance(found, str):
            raise UserError(
                f"model '{self.id}' has no stage 'patch-embed': {found}; stage denoise runs it with the rest"
            )
        return found

    def denoiser_frames(self, frames: int) -> int:
        """Latent frames of one denoiser forward: those of the clip, or of a window, padded to whole patches."""
        patch = self.denoiser.patch[0] if self.denoiser else self.latent.patch[0]
        window = self.denoiser.window if self.denoiser else None
        return round_up(window or self.latent.latent_frames(frames), patch)

    def tokens(self, size: Size | Workload) -> int:
        """Denoiser tokens of one forward, without text and history."""
        patch = self.denoiser.patch if self.denoiser else self.latent.patch
        grid = self.denoiser_frames(size.frames), *self.latent.shape(1, size)[-2:]
        return prod(positions // step for positions, step in zip(grid, patch, strict=True))

    def workload(self, stage: StageName, **given: Any) -> Workload:
        """A workload with the model's published size and dtype where none is given: fields of `Workload`.

        Raises UserError if a size is missing, or is not one that the model allows.
        """
        workload = self.draft(stage, **given)
        self.check(workload)
        return workload

    def draft(self, stage: StageName, **given: Any) -> Workload:
        """`workload` before its sizes are checked against the contract. None stands for what is not given."""
        given = (vars(self.default) if self.default else {}) | {
            name: value for name, value in fields_of(given).items() if value is not None
        }
        if self.contract is not None and self.frame_rule(stage) == "image":
            given.setdefault("frames", 1)
        size = {name: given.get(name) for name in ("frames", "height", "width")}
        missing = [name for name, value in size.items() if value is None]
        if self.text is not None and self.text.length is None and self.reads(stage, "L") and "text_length" not in given:
            missing.append("text_length")
        if self.vae is None and self.denoiser is None:
            raise UserError(self._closed(None if None in size.values() else from_dict(Size, size)))
        if missing:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
            raise UserError(f"model '{self.id}' has no published size for stage {stage}: give {names}")
        given = {"dtype": self.component(stage).dtype, "options": MemoryOptions(), **given}
        if self._tiles(stage):
            given["options"] = replace(given["options"], tiling=True)
        return Workload(model=self.reference or self.id, stage=stage, **given)

    def check(self, workload: Workload) -> None:
        """Raise UserError, with the nearest valid sizes, if the contract does not allow the workload."""
        component, contract = self.component(workload.stage), self.latent
        where = f"{self.id} {workload.stage}"
        if isinstance(component, Denoiser):
            height = width = f"{component.multiple_of}k"
            for name in component.fixed:
                value, only = getattr(workload, name), getattr(self.default, name)
                if value != only:
                    raise UserError(f"{name}: {where} takes {only} only, got {value}")
        else:
            patched = workload.stage == "roundtrip" and contract.normalization == "batch-norm"  # over 2x2 latents
            any_multiple = f"{contract.spatial_compression * (2 if patched else 1)}k"
            height, width = contract.height_rule or any_multiple, contract.width_rule or any_multiple
        check_size("frames", workload.frames, self.frame_rule(workload.stage), where)
        check_size("height", workload.height, height, where)
        check_size("width", workload.width, width, where)
        if workload.text_length is not None and not self.reads(workload.stage, "L"):
            raise UserError(f"text-length: {where} takes no text sequence; give it for a stage 'denoise' that does")
        if workload.stage == "patch-embed":
            self.patch_embed()
        if self._tiles(workload.stage) and not workload.options.tiling:
            raise UserError(f"tiling: {where} runs with tiles only; switch tiling on")

    def frame_rule(self, stage: StageName) -> str:
        """The VAE's own, or what the denoiser's pipeline asks for."""
        own = None if stage in VAE_STAGES or self.denoiser is None else self.denoiser.frame_rule
        return own or self.latent.frame_rule

    def _tiles(self, stage: StageName) -> bool:
        return stage in VAE_STAGES and self.vae is not None and self.vae.tiling == "always"

    def _closed(self, size: Size | None) -> str:
        """What can be said of a model of which nothing can be run: the closed form where its contract is published."""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.unknown.items())
        text = f"model '{self.id}' is closed, so there is nothing to run or trace ({reasons})"
        if self.contract is None or size is None:
            return f"{text}. `latentmeter latent` computes a latent from figures of your own"
        shape = self.contract.shape(1, size)
        return (
            f"{text}. Its latent in closed form, {size.frames}x{size.height}x{size.width}: {' x '.join(map(str, shape))}, "
            f"{format_bytes(2 * prod(shape))} in 16 bit, {self.tokens(size):,} tokens"
        )
