"""What is known of one pipeline: its class, its components by name, how it is called. Read from YAML, as a model is.

`configs/pipelines/ID.yaml` names the denoiser and the VAE of a model of the catalog, and parts of `configs/parts.yaml`.
"""

from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from profiler.data.section import PositiveInt, Section, digest_of
from profiler.data.text import did_you_mean
from profiler.data.workload import DtypeName, GenerationOptions, StageName, Workload
from profiler.errors import UserError
from profiler.files.load import damage_told, from_dict, read_yaml
from profiler.files.paths import CONFIGS
from profiler.models.catalog import catalog_model, model_ids, titles
from profiler.models.spec import Size
from profiler.models.tokenizer import Tokenizer

PIPELINES = CONFIGS / "pipelines"
DENOISER, VAE = "denoiser", "vae"
UNPUBLISHED = Size(height=512, width=512)  # what is run of a pipeline whose size nobody publishes


@dataclass(frozen=True, kw_only=True)
class Part(Section):
    """One component: a class, the library that has it as model_index.json names it, and its config.

    `folder` is where files lie that are more than a config: a tokenizer's vocabulary, an image processor's settings.
    """

    class_name: str
    library: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    parameters: PositiveInt | None = None
    source: str = ""
    folder: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reference(Section):
    """A part of `configs/parts.yaml` in another class, as CLIP with its projection. Counted anew: no parameters."""

    part: str
    class_name: str


@dataclass(frozen=True, kw_only=True)
class PipelineSpec(Section):
    """One pipeline. `dtype` is what `from_pretrained` is asked for, `dtypes` the components that are loaded in another.

    `settings` are the pipeline's own, as Wan's `boundary_ratio`. `call` holds arguments of a call, `pictures` and `masks`
    those that take one of the size, `guidance` the one that says how strong guidance is ("guider": that component's
    config). `origin` is where weights can be loaded from, a folder or a hub id, and `size` what that makes unasked.
    """

    id: str
    class_name: str
    model: str | None = None
    dtype: DtypeName = "bf16"
    dtypes: dict[str, DtypeName] = field(default_factory=dict)
    components: dict[str, str | Part | Tokenizer | Reference | None]
    settings: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    guidance: str = "guidance_scale"
    sources: dict[str, str] = field(default_factory=dict)
    origin: str | None = None
    size: Size | None = None

    @property
    def digest(self) -> str:
        """Twelve hex digits over the whole description: that of its model, of every part, of the files of those."""
        found = {name: self.part(name) for name in self.components}
        folders = [Path(part.folder) for part in found.values() if isinstance(part, Part) and part.folder]
        files = sorted(str((path, path.stat().st_mtime_ns)) for folder in folders for path in folder.glob("*"))
        models = [catalog_model(self.model).digest] if self.model else []
        return digest_of([asdict(self), [asdict(part) for part in found.values() if part], models, files])

    @property
    def default(self) -> Size | None:
        """The published size, where the catalog has its model; else that which the folder's pipeline makes."""
        return catalog_model(self.model).default if self.model else self.size

    @property
    def text_length(self) -> int | None:
        """Tokens of the longest prompt; None for a pipeline that takes none."""
        return self.call.get("max_sequence_length") or (77 if "tokenizer" in self.components else None)

    def draft(self, stage: StageName, **given: Any) -> Workload:
        """A whole generation, with the published size and dtype where None is given. Raises UserError for another stage."""
        usual = vars(self.default or UNPUBLISHED) | {"dtype": self.dtype, "generation": GenerationOptions()}
        given = usual | {name: value for name, value in given.items() if value is not None}
        return Workload(model=self.origin or self.id, stage=stage, **given)

    def dtype_of(self, component: str) -> DtypeName:
        """The dtype that a component is loaded in."""
        return self.dtypes.get(component, self.dtype)

    def part(self, component: str) -> Part | Tokenizer | None:
        """A component with its class and config; None where the pipeline goes without. Raises UserError for no such part."""
        named = self.components[component]
        if isinstance(named, Reference):
            found = _part(named.part)
            assert isinstance(found, Part)
            return replace(found, class_name=named.class_name, parameters=None)
        if not isinstance(named, str):
            return named
        if named not in (DENOISER, VAE):
            return _part(named)
        assert self.model is not None
        own = getattr(catalog_model(self.model), named)
        return Part(class_name=own.class_name, config=own.config, parameters=own.parameters)


def pipeline_ids() -> list[str]:
    """The ids of the catalog's pipelines, in order. Reads no file."""
    return sorted(path.name.removesuffix(".yaml") for path in PIPELINES.glob("*.yaml"))


@cache
def catalog_pipeline(pipeline_id: str) -> PipelineSpec:
    """One pipeline of the catalog. Raises UserError, with its errors and their places, for a file that is none."""
    path = PIPELINES / f"{pipeline_id}.yaml"
    with damage_told(path, "a pipeline file"):
        return from_dict(PipelineSpec, _merged(path) | {"id": pipeline_id})


def not_described(name: str) -> UserError:
    """The error for a model of the catalog, or a name, that is no pipeline."""
    known = ", ".join(pipeline_ids())
    what = "its pipeline is not described: "
    if name not in model_ids():
        what = f"no such pipeline: {did_you_mean(name, pipeline_ids(), titles())}"
    return UserError(
        f"'{name}': {what}pipelines are {known}; a diffusers folder with model_index.json, a hub id (owner/name) or, in "
        "Python, a pipeline object of your own work too"
    )


def _merged(path: Path) -> dict[str, Any]:
    """The file over the one that it is `like`: mappings key by key, anything else as a whole."""
    own = read_yaml(path)
    base = _merged(PIPELINES / f"{own.pop('like')}.yaml") if "like" in own else {}
    both = {key: base[key] | own[key] for key in base.keys() & own.keys() if isinstance(base[key], dict)}
    return base | own | both


@cache
def parts() -> dict[str, Part | Tokenizer]:
    """`configs/parts.yaml`: every part by its name."""
    path = CONFIGS / "parts.yaml"
    data = read_yaml(path)
    with damage_told(path, "a file of parts"):
        return from_dict(dict[str, Part | Tokenizer], data)


def _part(name: str) -> Part | Tokenizer:
    if name not in parts():
        raise UserError(f"no part '{name}' in configs/parts.yaml: {', '.join(parts())}")
    return parts()[name]
