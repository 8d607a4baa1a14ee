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
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from profiler.data.records import Estimate, from_dict
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.estimation.answer import answer, closed_form, estimate_of
from profiler.estimation.recording import Elsewhere, replay
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
        what = (w.stage, w.frames, w.batch, w.dtype, w.text_length, w.options.key, w.history.key)
        return _digest(self.spec.digest, what, kernels, [installed(name) for name in TRACED_BY], _own_files())

    @property
    def unrecordable(self) -> str | None:
        """Why there can be no recording for this question; None where there can be one."""
        history, options = self.workload.history, self.workload.options
        if self.stack.device != "cuda":
            return "on the CPU nothing is recorded"
        if options.tiling or options.benchmark:
            return "the number of tiles, or of plans that cudnn.benchmark times, depends on the size"
        if history.sizes or history.empty_cache:
            return "what the process did before is not recorded"
        return None

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
        with suppress(OSError):  # a disk that takes nothing makes the next estimate slower, no more
            _write(self._answer_path, {"made": _today(), "estimate": data})

    def keep_recording(self, recording: dict[str, Any]) -> Path:
        """Keep a recording; returns its file. Raises OSError."""
        path = cache_folder() / "traces" / f"{self.key}-{_digest(recording['grid'])}"
        _write(path, {"made": _today(), "recording": recording})
        return path

    @property
    def _answer_path(self) -> Path:
        stack, model = asdict(self.stack), self.workload.model
        question = (self.key, self.size, stack, self.context_bytes, model, front_end_version())
        return cache_folder() / "answers" / _digest(*question)

    def _recordings(self) -> Iterator[dict[str, Any]]:
        for path in (cache_folder() / "traces").glob(f"{self.key}-*"):
            with suppress(*UNREADABLE):
                yield _read(path)

    def _kept(self) -> Estimate | None:
        started = time.perf_counter()
        try:
            data = _read(self._answer_path)
            question = {"workload": asdict(self.workload), "stack": asdict(self.stack)}
            found: Estimate = from_dict(Estimate, data["estimate"] | question)
            note = f"kept from the same estimate of {data['made']}"
        except UNREADABLE:
            return None
        latent, notes = closed_form(self.workload, self.spec), found.notes | {"seconds": note}
        return replace(found, latent=latent, notes=notes, seconds=time.perf_counter() - started)

    def _replayed(self) -> Estimate | None:
        started = time.perf_counter()
        for data in self._recordings() if not self.unrecordable else ():
            try:
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
    """Write whole or not at all. Raises OSError."""
    if not is_on():
        return
    write_atomically(path, zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 1))


def _read(path: Path) -> Any:
    return json.loads(zlib.decompress(path.read_bytes()))
