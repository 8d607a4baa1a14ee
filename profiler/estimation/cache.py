"""What was estimated before, on disk: whole answers for the same question, recordings for any height and width.

Under `$XDG_CACHE_HOME/latentmeter`. A key covers everything that decides the result: the model's description, the workload,
the stack, this package's own files, the versions of what a trace runs. `LATENTMETER_CACHE=off` leaves the disk alone.
A file that cannot be read is as good as none.
"""

import hashlib
import json
import logging
import os
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from profiler.data.records import Estimate
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.estimation.answer import answer, closed_form, estimate_of
from profiler.estimation.recording import Elsewhere, grid_of, replay
from profiler.files.paths import CONFIGS, cache_folder, installed
from profiler.files.write import write_atomically
from profiler.kernels.cudnn_plans import front_end_version
from profiler.models.spec import ModelSpec

UNREADABLE = (OSError, ValueError, KeyError, TypeError, IndexError, zlib.error)
logger = logging.getLogger(__name__)
TRACED_BY = ("torch", "diffusers", "transformers", "accelerate")


class EstimateCache:
    """The files of one question: `workload` of `spec` on `stack`."""

    def __init__(self, workload: Workload, spec: ModelSpec, stack: Stack, context_bytes: int | None = None) -> None:
        self.workload, self.spec, self.stack, self.context_bytes = workload, spec, stack, context_bytes
        self.size = (workload.height, workload.width)

    @cached_property
    def key(self) -> str:
        """Names what a recording is of: everything but height and width, and of the stack what rules look at."""
        w, s = self.workload, self.stack
        kernels = (s.device, s.torch, s.capability, s.cudnn, s.settings)
        what = (w.stage, w.frames, w.batch, w.dtype, w.options.key, w.history.key)
        return _digest(self.spec.digest, what, kernels, [installed(name) for name in TRACED_BY], _own_files())

    @property
    def recordable(self) -> bool:
        """Whether a recording can be: on a GPU, without tiles, whose number depends on the size, in a fresh process."""
        history, options = self.workload.history, self.workload.options
        plain = not options.tiling and not options.benchmark
        return self.stack.device == "cuda" and plain and not history.sizes and not history.empty_cache

    def find(self) -> Estimate | None:
        """The answer, kept or replayed; None if it has to be traced."""
        if not is_on():
            return None
        found = self._kept() or self._replayed()
        logger.info("answer %s (%s)", found.notes["seconds"] if found else "has to be traced", cache_folder())
        return found

    def keep(self, found: Estimate) -> None:
        """Keep an answer for the same question."""
        data = asdict(replace(found, latent={}))
        for name in ("workload", "stack"):
            del data[name]
        _write(self._answer_path, {"made": _today(), "estimate": data})

    @property
    def wants_recording(self) -> bool:
        """Whether a recording for this size is possible, missing, and was not tried in vain."""
        known = [data["recording"] for data in self._recordings()]
        covered = any(recording is None or grid_of(recording).position(self.size) for recording in known)
        return is_on() and self.recordable and not covered

    def keep_recording(self, recording: dict[str, Any] | None) -> None:
        """Keep a recording; None: that there can be none, so that nobody tries again."""
        name = "none" if recording is None else _digest(recording["grid"])
        _write(cache_folder() / "traces" / f"{self.key}-{name}", {"made": _today(), "recording": recording})

    @property
    def _answer_path(self) -> Path:
        question = (
            self.key,
            self.size,
            asdict(self.stack),
            self.context_bytes,
            self.workload.model,
            front_end_version(),
        )
        return cache_folder() / "answers" / _digest(*question)

    def _recordings(self) -> Iterator[dict[str, Any]]:
        """Recordings, or a refusal to record, that can be read."""
        for path in (cache_folder() / "traces").glob(f"{self.key}-*"):
            try:
                yield _read(path)
            except UNREADABLE:
                continue

    def _kept(self) -> Estimate | None:
        started = time.perf_counter()
        try:
            data = _read(self._answer_path)
            rest = data["estimate"] | {"workload": asdict(self.workload), "stack": asdict(self.stack)}
            found: Estimate = _build(Estimate, rest)
            note = f"kept from the same estimate of {data['made']}"
        except UNREADABLE:
            return None
        return replace(
            found,
            workload=self.workload,
            stack=self.stack,
            latent=closed_form(self.workload, self.spec),
            seconds=time.perf_counter() - started,
            notes=found.notes | {"seconds": note},
        )

    def _replayed(self) -> Estimate | None:
        started = time.perf_counter()
        if not self.recordable:
            return None
        for data in self._recordings():
            try:
                if data["recording"] is None:
                    continue
                traced = replay(data["recording"], self.size, self.stack)
            except (Elsewhere, *UNREADABLE):
                continue
            traced.notes["seconds"] = f"replayed from a recording of {data['made']}"
            found = answer(traced, self.stack, context_bytes=self.context_bytes, started=started)
            return estimate_of(found, self.workload, self.spec)
        return None


def is_on() -> bool:
    """Whether the disk is used."""
    return os.environ.get("LATENTMETER_CACHE") != "off"


@cache
def _own_files() -> str:
    """Changes with every file of this package and of its plans and cards."""
    package = Path(sys.modules["profiler"].__file__ or "").parent
    folders = [*package.rglob("*.py"), *(CONFIGS / "plans").iterdir(), *(CONFIGS / "gpus").iterdir()]
    return _digest(sorted((str(path), (status := path.stat()).st_mtime_ns, status.st_size) for path in folders))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _write(path: Path, data: dict[str, Any]) -> None:
    """Write whole or not at all; a disk that takes nothing is no error."""
    if not is_on():
        return
    with suppress(OSError):
        write_atomically(path, zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 1))


def _read(path: Path) -> Any:
    return json.loads(zlib.decompress(path.read_bytes()))


def _build(kind: Any, value: Any) -> Any:
    """JSON back as the dataclass `kind`: what pydantic would do, without its half of the whole answer's time."""
    if value is None:
        return None
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{field.name: _build(hints[field.name], value[field.name]) for field in fields(kind)})
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        return tuple([_build(arguments[0], item) for item in value])
    if get_origin(kind) is dict:
        return {name: _build(arguments[1], item) for name, item in value.items()}
    if NoneType in arguments:
        return _build(next(a for a in arguments if a is not NoneType), value)
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
