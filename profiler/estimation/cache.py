"""What was estimated before, on disk: whole answers for the same question, recordings for any height and width.

A key covers everything that decides the result: the model's description, the workload, the stack, this package's own files,
the versions of what a trace runs. `profiler.files.cache` says where the files lie, and which of them are trusted.
"""

import hashlib
import json
import logging
import sys
import time
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
from profiler.estimation.recording import Elsewhere, grid_of, replay
from profiler.files import cache as disk
from profiler.files.paths import CONFIGS, installed
from profiler.kernels.cudnn_library import front_end_version
from profiler.kernels.cudnn_process import NO_ANSWER
from profiler.models.spec import ModelSpec

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
        found = self._kept() or self._replayed()
        if disk.is_on():
            logger.info("answer %s", found.notes["seconds"] if found else "has to be traced")
        return found

    def keep(self, found: Estimate) -> None:
        """Keep an answer for the same question, unless cuDNN is installed and was silent: the next may hear it."""
        if NO_ANSWER in found.notes.get("stack.planner", ""):
            return
        with suppress(OSError):  # a disk that takes nothing makes the next estimate slower, no more
            disk.keep("answers", self._answer_name, {"made": _today(), "estimate": asdict(replace(found, latent={}))})

    def recordings(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The recordings that hold for this question: their files, and what stands in them."""
        for path, data in disk.find_all("traces", f"{self.key}-*") if not self.unrecordable else ():
            if grid_of(data["recording"]).position(self.size) is not None:
                yield path, data

    def keep_recording(self, recording: dict[str, Any]) -> Path:
        """Keep a recording; returns its file. Raises OSError."""
        name = f"{self.key}-{_digest(recording['grid'])}"
        return disk.keep("traces", name, {"made": _today(), "recording": recording})

    @property
    def _answer_name(self) -> str:
        stack, model = asdict(self.stack), self.workload.model
        question = (self.key, self.size, stack, self.context_bytes, model, front_end_version())
        return _digest(*question)

    def _kept(self) -> Estimate | None:
        started = time.perf_counter()
        data = disk.find("answers", self._answer_name)
        if data is None:
            return None
        found: Estimate = from_dict(Estimate, data["estimate"])
        note = f"kept from the same estimate of {data['made']}"
        latent, notes = closed_form(self.workload, self.spec), found.notes | {"seconds": note}
        return replace(found, latent=latent, notes=notes, seconds=time.perf_counter() - started)

    def _replayed(self) -> Estimate | None:
        started = time.perf_counter()
        for _, data in self.recordings():
            try:
                traced = replay(data["recording"], self.size, self.stack)
            except Elsewhere:
                continue
            traced.notes["seconds"] = f"replayed from a recording of {data['made']}"
            found = answer(traced, self.stack, context_bytes=self.context_bytes, started=started)
            return estimate_of(found, self.workload, self.spec)
        return None


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
