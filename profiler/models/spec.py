"""What is known of one model: its components, its latent contract, its published size. Read from YAML, checked here.

A file that does not fit is refused with all its errors at once, each with its place. `extra="forbid"` turns a misspelt
key into an error instead of a silent default.
"""

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from profiler.errors import UserError
from profiler.latent import Layout
from profiler.workload import DtypeName, StageName, Workload


class Strict(BaseModel):
    """A frozen section of a file that knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Size(Strict):
    """A clip or image in pixels."""

    frames: PositiveInt = 1
    height: PositiveInt
    width: PositiveInt


class LatentContract(Strict):
    """How pixels become latents. `frame_rule`: `image` (one frame), `any`, or `<n>k+1` (n*k + 1 frames).

    `normalization`: `scale` is `(z - shift) * scale` with the VAE config's scaling and shift factors; `mean-std` is
    `(z - mean) / std` per channel with its `latents_mean` and `latents_std`, from the config or from buffers.
    """

    layout: Layout
    channels: PositiveInt
    spatial_compression: PositiveInt
    temporal_compression: PositiveInt = 1
    frame_rule: str = Field("image", pattern=r"^(image|any|\d+k\+1)$")
    normalization: Literal["scale", "mean-std"] = "scale"

    def latent_frames(self, frames: int) -> int:
        """Latent frames of `frames` pixel frames: causal VAEs encode the first frame alone."""
        if self.frame_rule.endswith("k+1"):
            return (frames - 1) // self.temporal_compression + 1
        return -(-frames // self.temporal_compression)

    def shape(self, batch: int, size: Size) -> tuple[int, ...]:
        """The VAE's latent shape; without T in layout `BCHW`, where each frame is a row of its own."""
        height, width = size.height // self.spatial_compression, size.width // self.spatial_compression
        if self.layout == "BCHW":
            return (batch * size.frames, self.channels, height, width)
        return (batch, self.channels, self.latent_frames(size.frames), height, width)


class Component(Strict):
    """One diffusers class with its config. `parameters` is the published element count, where one is."""

    class_name: str = Field(alias="class")
    config: dict[str, Any]
    dtype: DtypeName
    subfolder: str
    parameters: PositiveInt | None = None


class PatchEmbed(Strict):
    """The denoiser's patch embedding: a submodule's dotted path and its positional inputs."""

    module: str
    inputs: list[Any]


class Denoiser(Component):
    """A transformer or U-Net and what one forward wants. `inputs` is a template; see `stages.py` for its symbols."""

    patch: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1)
    multiple_of: PositiveInt
    guidance: Literal["batched", "sequential", "distilled", "none"] = "none"
    inputs: dict[str, Any]
    patch_embed: PatchEmbed


class Text(Strict):
    """Text conditioning: token count and width."""

    encoder: str
    length: PositiveInt
    dim: PositiveInt


class ModelSpec(Strict):
    """One model. `origin` is set where weights can be loaded from: a folder or a hub id.

    `reference` is the text by which the model is found again, where that is not its id: a path or a hub id.
    """

    id: str
    name: str
    hub: str | None = None
    default: Size | None = None
    latent: LatentContract
    vae: Component
    denoiser: Denoiser | None = None
    text: Text | None = None
    sources: dict[str, str] = Field(default_factory=dict)
    origin: str | None = None
    reference: str | None = None

    @property
    def digest(self) -> str:
        """Twelve hex digits over the whole description."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def component(self, stage: StageName) -> Component:
        """The component that `stage` runs. Raises UserError where the model has no such component."""
        if stage in ("encode", "decode", "roundtrip"):
            return self.vae
        if self.denoiser is None:
            raise UserError(
                f"model '{self.id}' describes no denoiser: stage '{stage}' needs one; "
                "stages encode, decode and roundtrip work"
            )
        return self.denoiser

    def tokens(self, size: Size) -> int:
        """Denoiser tokens of one clip, without text."""
        patch = self.denoiser.patch if self.denoiser else (1, 1, 1)
        latent = self.latent.latent_frames(size.frames), *self.latent.shape(1, size)[-2:]
        return latent[0] // patch[0] * (latent[1] // patch[1]) * (latent[2] // patch[2])

    def workload(
        self,
        stage: StageName,
        *,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        dtype: DtypeName | None = None,
        check: bool = True,
        **rest: Any,
    ) -> Workload:
        """A workload with the model's published size and dtype where none is given.

        Raises UserError if a size is missing, and, with `check`, if the contract does not allow it.
        """
        given = {"frames": frames, "height": height, "width": width}
        size: dict[str, Any] = {n: v if v is not None else getattr(self.default, n, None) for n, v in given.items()}
        missing = [name for name, value in size.items() if value is None]
        if missing:
            raise UserError(f"model '{self.id}' has no published size: give {', '.join(missing)}")
        dtype = dtype or self.component(stage).dtype
        workload = Workload(model=self.reference or self.id, stage=stage, dtype=dtype, **size, **rest)
        if check:
            self.check(workload)
        return workload

    def check(self, workload: Workload) -> None:
        """Raise UserError, with the nearest valid sizes, if the contract does not allow the workload's size."""
        _check_frames(self.latent.frame_rule, workload.frames)
        multiple = self.latent.spatial_compression
        if workload.component == "denoiser":
            self.component(workload.stage)
            assert self.denoiser is not None
            multiple = self.denoiser.multiple_of
        for name in ("height", "width"):
            value: int = getattr(workload, name)
            if value % multiple:
                below = value // multiple * multiple
                near = f"{below} or {below + multiple}" if below else f"{multiple}"
                raise UserError(
                    f"{name}: {value} is not a multiple of {multiple}, as {self.id} {workload.stage} needs; "
                    f"nearest: {near}"
                )


def _check_frames(rule: str, frames: int) -> None:
    if rule == "any":
        return
    if rule == "image":
        if frames != 1:
            raise UserError(f"frames: this is an image model, so frames must be 1, got {frames}")
        return
    step = int(rule.split("k")[0])
    if (frames - 1) % step:
        below = (frames - 1) // step * step + 1
        raise UserError(f"frames: {frames} is not of the form {rule}; nearest: {below} or {below + step}")
