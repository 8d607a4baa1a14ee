"""What is asked: a stage of a model or a whole generation, at a size, on a card. It asks the estimator, once a setting."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from profiler.allocator.histories import capacity_of
from profiler.data.stack import Stack
from profiler.data.units import ELEMENT_BYTES
from profiler.data.workload import VAE_STAGES, DtypeName, History, StageName
from profiler.errors import LatentmeterError
from profiler.estimation.calls import ask_generation, ask_stage
from profiler.models.attention import with_environment
from profiler.models.catalog import catalog_model
from profiler.models.find import find_model
from profiler.models.pipeline_spec import UNPUBLISHED, Part, PipelineSpec
from profiler.models.spec import ModelSpec
from profiler.search.setting import Setting
from profiler.search.trial import Trial

SIZES = ("frames", "height", "width")


@dataclass(kw_only=True)
class Question:
    """`base` is what the user sets, and stays; `sizes` those that were given, `card` the options that name the card.

    `trials` is all that was asked, in order, and `traced` what was traced last: it serves other cards and memories too.
    """

    spec: ModelSpec | PipelineSpec
    stack: Stack
    context_bytes: int | None = None
    base: Setting = field(default_factory=Setting)
    sizes: Mapping[str, int] = field(default_factory=dict)
    batch: int = 1
    ram: int | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _: None
    trials: dict[Setting, Trial] = field(default_factory=dict)
    traced: dict[Any, Any] = field(default_factory=dict)
    stage: str = "generate"

    def ask(self, setting: Setting) -> Trial:
        """The trial of a setting. A setting that the model or the estimator refuses is told, not raised."""
        if setting not in self.trials:
            self.tell(f"{self.title}: {setting.title}")
            try:
                found, why = self._estimate(setting), ""
            except LatentmeterError as error:
                found, why = None, str(error)
            self.trials[setting] = Trial(setting=setting, found=found, refused=why, ram=self.ram)
        return replace(self.trials[setting], setting=setting)  # other changes may have led to the same setting

    def resized(self, **sizes: int) -> Self:
        """The same question at another size, with nothing asked yet."""
        batch = sizes.pop("batch", self.batch)
        return replace(self, sizes={**self.sizes, **sizes}, batch=batch, trials={})

    @cached_property
    def capacity(self) -> int:
        """Bytes that torch can take of the card."""
        return capacity_of(self.stack, self.context_bytes) or 0

    @property
    def takes_frames_as_batch(self) -> bool:
        """Whether it is a clip whose VAE knows pictures alone, and takes its frames as a batch."""
        return self.model is not None and self.size["frames"] > 1 and self.model.latent.layout == "BCHW"

    @property
    def whole(self) -> bool:
        """Whether a whole generation is asked for, and not a stage."""
        return self.stage == "generate"

    @property
    def size(self) -> dict[str, int]:
        """Frames, height and width as they are run: those given, else the published ones."""
        default = self.spec.default or UNPUBLISHED
        return {name: self.sizes.get(name) or getattr(default, name) for name in SIZES}

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.size["height"], self.size["width"]

    @property
    def title(self) -> str:
        """The size in words."""
        frames, height, width = self.size.values()
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return (f"{frames}x" if frames > 1 else "") + f"{height}x{width}{batch}"

    @property
    def name(self) -> str:
        """What the model or pipeline is called by."""
        raise NotImplementedError

    @property
    def model(self) -> ModelSpec | None:
        """The model whose VAE and denoiser run; None for a pipeline that is not the catalog's."""
        raise NotImplementedError

    @property
    def vae_alone(self) -> "StageQuestion | None":
        """The VAE's part of it as a question of its own; None where there is none."""
        raise NotImplementedError

    def _estimate(self, setting: Setting) -> Any:
        raise NotImplementedError


@dataclass(kw_only=True)
class StageQuestion(Question):
    """One stage of a model that is alone on the card; `keeps_dtype` where its pipeline loads it in one whatever is asked."""

    spec: ModelSpec
    stage: StageName = "decode"
    text_length: int | None = None
    history: History = field(default_factory=History)
    keeps_dtype: bool = False

    @property
    def name(self) -> str:
        return self.spec.reference or self.spec.id

    @property
    def model(self) -> ModelSpec:
        return self.spec

    @property
    def vae_alone(self) -> "StageQuestion | None":
        return self if self.stage in VAE_STAGES else None

    def workload(self, setting: Setting) -> Any:
        """What is run with a setting. Raises UserError for a size or option that the model does not take."""
        given = {"batch": self.batch, "dtype": setting.dtype, "options": setting.options, "history": self.history}
        found = self.spec.workload(self.stage, **self.sizes, **given, text_length=self.text_length)
        return with_environment(found, self.spec)

    def check(self) -> None:
        """Raise UserError, with the nearest valid sizes, for a size that the model does not take."""
        self.workload(self.base)

    def _estimate(self, setting: Setting) -> Any:
        asked = self.workload(setting)
        asked.check_device(self.stack.device)
        return ask_stage(asked, self.spec, setting.stack_of(self.stack), self.context_bytes, self.traced)


@dataclass(kw_only=True)
class GenerationQuestion(Question):
    """A whole generation of a pipeline: its load and two calls. `call` are the other arguments of `profiler.generate`."""

    spec: PipelineSpec
    call: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.origin or self.spec.id

    @cached_property
    def model(self) -> ModelSpec | None:
        if self.spec.model:
            return catalog_model(self.spec.model)
        try:
            return find_model(self.spec.origin) if self.spec.origin else None
        except LatentmeterError:  # a VAE that none can describe: its pipeline runs all the same
            return None

    @cached_property
    def vae_alone(self) -> StageQuestion | None:
        if self.model is None or self.model.vae is None:
            return None
        return replace(self._stage("decode", self.dtype_of("vae", self.base)), keeps_dtype="vae" in self.spec.dtypes)

    @cached_property
    def denoiser_alone(self) -> StageQuestion | None:
        """One forward of the denoiser as a question of its own: of both halves where guidance doubles the batch."""
        if self.model is None or (denoiser := self.model.denoiser) is None:
            return None
        one = self._stage("denoise", self.dtype_of("transformer", self.base))
        guided = denoiser.guidance == "batched" and self.call.get("guidance") is None
        return replace(one, batch=one.batch * (1 + guided))

    def check(self) -> None:
        """Raise UserError, with the nearest valid sizes, for a size that the VAE or the denoiser does not take."""
        for part in (self.vae_alone, self.denoiser_alone) if self.sizes else ():
            if part is not None:
                part.check()

    def frames_at_once(self, setting: Setting) -> int | None:
        """How many frames of a clip the pipeline hands to a VAE that takes them as a batch; None where it does not say."""
        from profiler.models.pipeline import pipeline_class

        says = inspect.signature(pipeline_class(self.spec.class_name).__call__).parameters.get("decode_chunk_size")
        frames = self.size["frames"]
        return min(frames, setting.decode_chunk or says.default or frames) if says else None

    def weights(self, setting: Setting) -> int:
        """Bytes of weights that a setting has on the card at least at once, as far as they are published."""
        sizes = [*self.component_bytes(setting).values(), 0]
        return {"none": sum(sizes), "model": max(sizes)}.get(setting.placement.offload, 0)

    def component_bytes(self, setting: Setting) -> dict[str, int]:
        """Weights of each component, as far as their parameters are published."""
        parts = {name: self.spec.part(name) for name in self.spec.components}
        return {
            name: part.parameters * ELEMENT_BYTES[self.dtype_of(name, setting)]
            for name, part in parts.items()
            if isinstance(part, Part) and part.parameters
        }

    def dtype_of(self, component: str, setting: Setting) -> DtypeName:
        """The dtype in which a component is loaded."""
        return self.spec.dtypes.get(component, setting.dtype or self.spec.dtype)

    def _stage(self, stage: StageName, dtype: DtypeName) -> StageQuestion:
        model = self.model
        assert model is not None
        needs_length = model.text and model.text.length is None and model.reads(stage, "L")
        return StageQuestion(
            spec=model,
            stage=stage,
            batch=self.batch * (self.call.get("images_per_prompt") or 1),
            sizes=self.sizes if self.spec.model else self.size,
            base=Setting(dtype=dtype),
            text_length=self.spec.text_length if needs_length else None,
            stack=self.stack,
            context_bytes=self.context_bytes,
            tell=self.tell,
        )

    def _estimate(self, setting: Setting) -> Any:
        call: dict[str, Any] = {**self.call, **self.sizes}
        if self.batch > 1:
            call["prompts"] = self.batch
        call |= {name: value for name in ("dtype", "decode_chunk") if (value := getattr(setting, name)) is not None}
        return ask_generation(
            self.spec, setting.stack_of(self.stack), self.context_bytes, setting.placement, setting.options, call,
            lambda line: self.tell(f"{self.title}: {setting.title}: {line}"), self.traced,
        )  # fmt: skip
