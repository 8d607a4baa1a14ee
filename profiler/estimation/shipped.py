"""Recordings that come with the package: `configs/recordings/<model>/<stage>.json.xz`, made by `scripts/make_recordings`.

They serve the catalog, every card, and one set of the code that was traced: `made_by.json` says which.
"""

import hashlib
import importlib.util
import json
import lzma
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from profiler.data.workload import Workload
from profiler.files.paths import CONFIGS, installed
from profiler.models.spec import ModelSpec

RECORDINGS = CONFIGS / "recordings"
# What a stage's trace goes through, and what lies beside it: whole generations, and the ways in which a model is found.
TRACED = ("trace", "stages", "models", "estimation/fit.py", "estimation/recording.py", "kernels/prices.py")
UNTRACED = frozenset(
    """trace/parts.py trace/placed.py trace/stand_in_cuda.py stages/generation.py stages/generation_options.py stages/call.py
    models/find.py models/folder.py models/catalog.py models/pipeline.py models/pipeline_folder.py
    models/pipeline_spec.py models/tokenizer.py models/not_here.py models/__init__.py""".split()  # noqa: SIM905
)
NAMES = {"bf16": "bfloat16", "fp16": "float16"}


def kind_of(workload: Workload) -> str:
    """What a recording is of besides model and stage, as text: dtype, text length, options, history."""
    text = "" if workload.text_length is None else f"text{workload.text_length}"
    return "/".join(part for part in (workload.dtype, text, workload.options.key, workload.history.key) if part)


@cache
def made_by(release: tuple[int, int, int]) -> dict[str, str]:
    """The code that decides what a trace of a torch release finds: by content, so that times and places play no part."""
    package = Path(__file__).parents[1]
    diffusers = importlib.util.find_spec("diffusers")  # which is not imported by that
    models = Path(diffusers.origin or "").parent / "models" if diffusers else None
    return {
        "torch": ".".join(map(str, release)),
        "traced on torch": (installed("torch") or "").partition("+")[0],
        "diffusers": installed("diffusers") or "",
        "models": _content(models.rglob("*.py")) if models else "",
        "latentmeter": _content(
            file for part in TRACED for file in _files(package / part) if _told(file) not in UNTRACED
        ),
    }


def shipped(model: str, stage: str) -> dict[str, Any] | None:
    """What is shipped for a stage of a catalog model; None for nothing, and for a model of another name."""
    path = path_of(model, stage) if f"{model}/{stage}" in read_table()["files"] else None
    return json.loads(lzma.decompress(path.read_bytes())) if path and path.is_file() else None


def path_of(model: str, stage: str) -> Path:
    """The file for a stage of a catalog model."""
    return RECORDINGS / model / f"{stage}.json.xz"


def recordings_of(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The recordings of one kind. In 16 bit they are kept once, where the other dtype has the same but for its name."""
    of: dict[str, Any] = found["of"]
    recordings = of.get(kind, [])
    return in_dtype(of[recordings], kind) if isinstance(recordings, str) else recordings


def in_dtype(recordings: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Recordings of bf16 as those of fp16. Only what describes blocks, the smallest part of them, names a dtype."""
    bf16, other = (f'"{NAMES[dtype]}"' for dtype in ("bf16", kind.partition("/")[0]))
    return [one | {"kinds": json.loads(json.dumps(one["kinds"]).replace(bf16, other))} for one in recordings]


def digest_of(made: dict[str, str]) -> str:
    """The code as one text."""
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:12]


def why_not(found: dict[str, Any], workload: Workload, spec: ModelSpec, release: tuple[int, int, int]) -> str | None:
    """Why what is shipped for a stage does not serve this model and torch; None where it does."""
    made, here = read_table(), made_by(release)
    others = [name for name in ("torch", "traced on torch", "diffusers") if made["by"][name] != here[name]]
    if others:
        return "the recordings are of " + ", ".join(f"{name} {made['by'][name]}, not {here[name]}" for name in others)
    name = f"{workload.model}/{workload.stage}"
    if made["files"].get(name) != digest_of(here) or found["spec"] != spec.digest:
        return "the recordings are of other code than that which is installed"
    return None


def read_table() -> dict[str, Any]:
    """`made_by.json`: by what code the latest were made, each file's own, and why others are missing."""
    path = RECORDINGS / "made_by.json"
    return (
        dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {"by": {}, "files": {}, "missing": {}}
    )


def _files(path: Path) -> Iterator[Path]:
    return path.rglob("*.py") if path.is_dir() else iter([path])


def _told(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _content(files: Iterator[Path]) -> str:
    """A digest of the files' names and contents."""
    told = hashlib.sha256()
    for path in sorted(files, key=_told):
        told.update(f"{_told(path)}\n".encode() + path.read_bytes())
    return told.hexdigest()[:20]
