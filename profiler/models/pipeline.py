"""Builds diffusers' real pipeline object: real classes, weights on `meta`, a stand-in where a tokenizer is not here.

The catalog's pipelines and any folder with a model_index.json are made the same way, and called as their users call them.
"""

import importlib
import inspect
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from torch import nn

from profiler.data.workload import DtypeName
from profiler.errors import MODEL_FAILURES, ModelError, UserError, first_line
from profiler.models.build import TORCH_DTYPES, build
from profiler.models.pipeline_spec import Part, PipelineSpec
from profiler.models.spec import Size
from profiler.models.tokenizer import Tokenizer, stand_in

LIBRARIES = ("diffusers", "transformers")
RENAMED = {"CLIPFeatureExtractor": "CLIPImageProcessor"}  # in transformers 5, as diffusers' deprecation_utils has it


def pipeline_class(name: str) -> Any:
    """The pipeline class `name` of diffusers. Raises UserError where the installed one has none."""
    import diffusers

    if find_spec("transformers") is None:  # diffusers has a dummy in place of each pipeline then
        raise UserError(f"{name} needs transformers, which is not installed: pip install transformers")

    found = getattr(diffusers, name, None)
    if not isinstance(found, type) or not issubclass(found, diffusers.DiffusionPipeline):
        raise UserError(f"diffusers {diffusers.__version__} has no pipeline '{name}'; a newer diffusers may")
    return found


def build_pipeline(spec: PipelineSpec, dtype: DtypeName | None = None) -> Any:
    """The pipeline as `from_pretrained` would leave it on the CPU, but for its weights, which are on `meta`.

    `dtype` replaces the one of `spec`, not those that it gives single components. Tied weights are one tensor. Raises
    UserError for a class that is not installed, ModelError for one that rejects its config.
    """
    cls = pipeline_class(spec.class_name)
    loaded_in = spec if dtype is None else replace(spec, dtype=dtype)
    components = {name: _build(name, loaded_in) for name in spec.components}
    try:
        return cls(**components, **spec.settings)
    except MODEL_FAILURES as error:
        raise ModelError(f"{spec.class_name} rejects its components: {first_line(error)}") from error


def call_arguments(
    spec: PipelineSpec,
    *,
    size: Size | None = None,
    steps: int | None = None,
    prompts: int = 1,
    images_per_prompt: int = 1,
    guidance: float | None = None,
    text_length: int | None = None,
    decode_chunk: int | None = None,
) -> dict[str, Any]:
    """What the pipeline is called with: the published size, steps and guidance where none are given, prompts of words.

    A prompt has `text_length` words, and where none is given the most that the pipeline takes. Raises UserError for what the
    pipeline has no argument for. Guidance of a guider is no argument: `set_guidance`.
    """
    import PIL.Image

    taken = inspect.signature(pipeline_class(spec.class_name).__call__).parameters
    size = size or spec.default
    given: dict[str, Any] = dict(spec.call)
    if size is not None:
        given |= {name: getattr(size, name) for name in ("height", "width") if name in taken}
        given |= {"num_frames": size.frames} if "num_frames" in taken else {}
        square = (size.width, size.height)
        given |= {name: PIL.Image.new("RGB", square) for name in spec.pictures}
        given |= {name: PIL.Image.new("L", square, 255) for name in spec.masks}
    if "prompt" in taken:
        given["prompt"] = [" ".join(["a"] * (text_length or spec.text_length or 77))] * prompts
    elif prompts > 1 or text_length is not None:
        raise UserError(f"{spec.id}: {spec.class_name} takes no prompt")
    if "negative_prompt" in given:
        given["negative_prompt"] = [given["negative_prompt"]] * prompts
    several = next((name for name in ("num_images_per_prompt", "num_videos_per_prompt") if name in taken), None)
    if images_per_prompt > 1:
        if several is None:
            raise UserError(f"{spec.id}: {spec.class_name} makes one result of a prompt")
        given[several] = images_per_prompt
    if decode_chunk is not None:
        if "decode_chunk_size" not in taken:
            raise UserError(
                f"decode_chunk: {spec.class_name} has no decode_chunk_size; --tiling and --slicing cut what its VAE decodes"
            )
        given["decode_chunk_size"] = decode_chunk
    if steps is not None:
        given["num_inference_steps"] = steps
    if guidance is not None and spec.guidance in taken:
        given[spec.guidance] = guidance
    return given


def set_guidance(spec: PipelineSpec, pipeline: Any, guidance: float) -> None:
    """Set how strong guidance is where that is no argument of a call but the config of a guider."""
    if spec.guidance in pipeline.components:
        guider = getattr(pipeline, spec.guidance)
        setattr(pipeline, spec.guidance, guider.new(guidance_scale=guidance))


def _build(name: str, spec: PipelineSpec) -> Any:
    """One component of the pipeline; None where it goes without."""
    part = spec.part(name)
    if part is None:
        return None
    if isinstance(part, Tokenizer):
        return stand_in(part)
    cls = part_class(part)
    if isinstance(cls, type) and issubclass(cls, nn.Module):
        return build(cls, part.config, TORCH_DTYPES[spec.dtype_of(name)])
    try:
        if part.folder is not None:
            return cls.from_pretrained(part.folder)
        return cls.from_config(part.config) if hasattr(cls, "from_config") else cls(**part.config)
    except (OSError, *MODEL_FAILURES) as error:
        raise UserError(f"{spec.id}: {name} ({part.class_name}) cannot be made: {first_line(error)}") from error


def part_class(part: Part) -> Any:
    """The class of a component, by the library that model_index.json names: diffusers, transformers or a pipeline's folder.

    Raises UserError where the installed libraries have none.
    """
    own = [f"diffusers.pipelines.{part.library}"] if part.library and part.library not in LIBRARIES else []
    for library in (*own, *LIBRARIES):
        try:
            found = getattr(importlib.import_module(library), RENAMED.get(part.class_name, part.class_name), None)
        except ImportError:
            continue
        if found is not None:
            return found
    raise UserError(f"no class '{part.class_name}' in {', '.join((*own, *LIBRARIES))} as installed; newer ones may")
