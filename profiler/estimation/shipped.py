"""Recordings that come with the package: `configs/recordings/<model>/<stage>.jsonl.xz`, made by `scripts/make_recordings`.

A file's first line says of which kinds its other lines are, one each; of those an answer reads its own.

They serve the catalog, every card, and one set of the code that was traced: `made_by.json` says which.
"""

import base64
import hashlib
import importlib.util
import json
import lzma
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from profiler.data.workload import Workload
from profiler.files.cache import digest
from profiler.files.paths import CONFIGS, installed
from profiler.models.spec import ModelSpec

RECORDINGS = CONFIGS / "recordings"
# What a stage's trace goes through, and what lies beside it: whole generations, the ways in which a model is found, and the
# copying of calls, which finds what a trace without it does.
TRACED = (
    "trace/**/*.py", "stages/**/*.py", "models/**/*.py",
    "estimation/size_functions.py", "estimation/turns.py", "estimation/recording.py", "kernels/prices.py",
)  # fmt: skip
UNTRACED = frozenset(
    """trace/repeated_calls.py trace/trees.py trace/attributes.py
    trace/parts.py trace/placed.py trace/crossing.py trace/module_moves.py trace/stand_in_cuda.py
    stages/generation.py stages/generation_options.py stages/generation_ready.py stages/call.py
    models/find.py models/folder.py models/catalog.py models/pipeline.py models/pipeline_folder.py
    models/pipeline_spec.py models/lora.py models/tokenizer.py models/not_here.py models/__init__.py""".split()  # noqa: SIM905
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
    folder = Path(diffusers.origin or "").parent if diffusers else None
    version = installed("diffusers") or ""
    record = folder and folder.parent / f"diffusers-{version}.dist-info" / "RECORD"
    return {
        "torch": ".".join(map(str, release)),
        "traced on torch": (installed("torch") or "").partition("+")[0],
        "diffusers": version,
        "models": content_of((folder / "models").rglob("*.py"), record) if folder else "",
        "latentmeter": content_of(
            file for part in TRACED for file in package.glob(part) if _told(file) not in UNTRACED
        ),
    }


def shipped(model: str, stage: str) -> dict[str, Any] | None:
    """What is shipped for a stage of a catalog model; None for nothing, and for a model of another name."""
    path = path_of(model, stage) if f"{model}/{stage}" in read_table()["files"] else None
    if path is None or not path.is_file():
        return None
    head, *lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    found: dict[str, Any] = json.loads(head)
    return found | {"of": dict(zip(found["of"], lines, strict=True))}


def path_of(model: str, stage: str) -> Path:
    """The file for a stage of a catalog model."""
    return RECORDINGS / model / f"{stage}.jsonl.xz"


def recordings_of(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The recordings of one kind. In 16 bit they are kept once, where the other dtype has the same but for its name."""
    told: list[dict[str, Any]] | str = json.loads(found["of"].get(kind, "[]"))
    return in_dtype(recordings_of(found, told), kind) if isinstance(told, str) else told


def in_dtype(recordings: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Recordings of bf16 as those of fp16. Only what describes blocks, the smallest part of them, names a dtype."""
    bf16, other = (f'"{NAMES[dtype]}"' for dtype in ("bf16", kind.partition("/")[0]))
    return [one | {"kinds": json.loads(json.dumps(one["kinds"]).replace(bf16, other))} for one in recordings]


def why_not(found: dict[str, Any], workload: Workload, spec: ModelSpec, release: tuple[int, int, int]) -> str | None:
    """Why what is shipped for a stage does not serve this model and torch; None where it does."""
    made, here = read_table(), made_by(release)
    others = [name for name in ("torch", "traced on torch", "diffusers") if made["by"][name] != here[name]]
    if others:
        return "the recordings are of " + ", ".join(f"{name} {made['by'][name]}, not {here[name]}" for name in others)
    name = f"{workload.model}/{workload.stage}"
    if made["files"].get(name) != digest(here) or found["spec"] != spec.digest:
        return "the recordings are of other code than that which is installed"
    return None


def read_table() -> dict[str, Any]:
    """`made_by.json`: by what code the latest were made, each file's own, and why others are missing."""
    path = RECORDINGS / "made_by.json"
    return (
        dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {"by": {}, "files": {}, "missing": {}}
    )


def _told(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def content_of(files: Iterable[Path], record: Path | None = None) -> str:
    """A digest of the files' names and contents.

    `record` is the list of a package's files that an installer wrote beside it, last of all. What it says of a file that
    is no newer, and as long as it says, is believed, and the file is not read.
    """
    rows, written = {}, 0
    if record is not None and record.is_file():
        rows = dict(line.partition(",")[::2] for line in record.read_text(encoding="utf-8").splitlines())
        written = record.stat().st_mtime_ns
    told = hashlib.sha256()
    for path in sorted(files):
        status = path.stat()
        row = rows.get(path.relative_to(record.parents[1]).as_posix(), "") if record else ""
        if status.st_mtime_ns > written or not row.endswith(f",{status.st_size}"):
            content = hashlib.sha256(path.read_bytes()).digest()
            row = f"sha256={base64.urlsafe_b64encode(content).decode().rstrip('=')},{status.st_size}"
        told.update(f"{_told(path)} {row}\n".encode())
    return told.hexdigest()[:20]
