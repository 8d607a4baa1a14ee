"""Where real weights are read from: safetensors, which are data, or a pickle, which is a program, where that is allowed."""

from pathlib import Path

from profiler.data.workload import StageName
from profiler.errors import UserError
from profiler.models.spec import ModelSpec

# As diffusers names them; a large component's are cut into numbered files of the same beginning.
STEM = "diffusion_pytorch_model"


def weights_format(spec: ModelSpec, stage: StageName) -> str | None:
    """`safetensors` or `pickle`; None where random weights will do. Raises UserError for a pickle that is not allowed.

    What a hub has is not known before it is loaded: it is safetensors, or diffusers refuses, unless a pickle is allowed.
    """
    if spec.origin is None:
        return None
    folder = Path(spec.origin, spec.component(stage).subfolder)
    if not Path(spec.origin).is_dir():
        return "safetensors, or else a pickle" if spec.allow_pickle else "safetensors"
    if any(folder.glob(f"{STEM}*.safetensors")):
        return "safetensors"
    if not any(folder.glob(f"{STEM}*.bin")):
        raise UserError(f"{folder}: no weights ({STEM}.safetensors) to measure with; an estimate needs none")
    if not spec.allow_pickle:
        raise UserError(
            f"{folder}: its weights are a pickle ({STEM}*.bin), a program that runs as it is read, and there are no "
            "safetensors; --allow-pickle (allow_pickle=True) reads it, or save it again with "
            "save_pretrained(safe_serialization=True)"
        )
    return "pickle"


def weights_note(spec: ModelSpec, stage: StageName) -> dict[str, str]:
    """A measurement's note on where its weights came from; none for random ones."""
    found = weights_format(spec, stage)
    return {"weights": f"read from {spec.origin}, {found}"} if found else {}
