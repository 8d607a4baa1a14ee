"""The catalog: `configs/models/*.yaml`, one file a model, named by its id."""

from functools import cache
from pathlib import Path

from profiler.errors import UserError
from profiler.files.load import read_as, read_own
from profiler.files.paths import CONFIGS
from profiler.models.spec import ModelSpec

MODELS = CONFIGS / "models"


def model_ids() -> list[str]:
    """The ids of the catalog, in order. Reads no file."""
    return sorted(path.name.removesuffix(".yaml") for path in MODELS.glob("*.yaml"))


@cache
def catalog_model(model_id: str) -> ModelSpec:
    """One model of the catalog; reads its file alone."""
    return read_own(ModelSpec, MODELS / f"{model_id}.yaml", "a model file")


def catalog() -> dict[str, ModelSpec]:
    """Every model of the catalog, by id, in the order of the ids."""
    return {model_id: catalog_model(model_id) for model_id in model_ids()}


def titles() -> dict[str, str]:
    """What people call each model of the catalog, by its id."""
    return {model_id: spec.name for model_id, spec in catalog().items()}


def models_with(part: str, class_name: str) -> list[ModelSpec]:
    """The models whose `part` ("vae" or "denoiser") is of the diffusers class `class_name`."""
    return [spec for spec in catalog().values() if getattr(getattr(spec, part), "class_name", None) == class_name]


def read_spec(path: Path) -> ModelSpec:
    """Read one model file. Raises UserError with every error of the file and its place."""
    spec = read_as(ModelSpec, path, "a model file")
    if spec.allow_pickle:
        raise UserError(f"{path}: allow_pickle: not for a file to say; give --allow-pickle when you measure")
    return spec
