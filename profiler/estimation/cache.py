"""What was estimated before, on disk: whole answers for the same question, recordings for any height and width.

A key covers everything that decides the result: the model's description, the workload, the stack, the code that is traced
and traces. `profiler.files.cache` says where the files lie, and which of them are trusted.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from profiler.data.records import CallEstimate, Estimate
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.estimation import shipped
from profiler.estimation.answer import answer, estimate_of
from profiler.estimation.recording import grid_of, replay
from profiler.estimation.shipped import kind_of
from profiler.estimation.size_functions import size_of
from profiler.files import cache as disk
from profiler.files.load import from_dict
from profiler.files.paths import CONFIGS, installed
from profiler.kernels.cudnn_library import front_end_version
from profiler.kernels.cudnn_process import NO_ANSWER
from profiler.kernels.prices import Elsewhere
from profiler.machine.cards import gpu_named
from profiler.models.spec import ModelSpec

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer", bound=CallEstimate)
DIGITS = 20  # of an entry's name
FLATTEN = "TORCH_LINEAR_FLATTEN_3D"  # a trace goes by what holds here


@dataclass(frozen=True)
class Kept:
    """One file of recordings: of what model, stage and dtype, when it was made, where it lies."""

    of: str
    made: str
    path: str
    bytes: int
    shipped: bool


def list_kept() -> list[Kept]:
    """Every file of recordings, those of the package last."""
    own = [(data["of"], data["made"], path, False) for path, data in disk.find_all("traces", "*")]
    coming = [(name, "", shipped.path_of(*name.split("/")), True) for name in shipped.read_table()["files"]]
    found = [*sorted(own), *coming]
    return [Kept(of, made, str(path), path.stat().st_size, yes) for of, made, path, yes in found if path.is_file()]


class EstimateCache:
    """The files of one question: `workload` of `spec` on `stack`."""

    def __init__(self, workload: Workload, spec: ModelSpec, stack: Stack, context_bytes: int | None = None) -> None:
        self.workload, self.spec, self.stack, self.context_bytes = workload, spec, stack, context_bytes
        self.size = size_of(workload)

    @cached_property
    def key(self) -> str:
        """Names what a recording is of: everything but the size and the card."""
        made_by = shipped.made_by(self.stack.torch_release)
        return disk.digest([self.spec.digest, self.workload.stage, kind_of(self.workload), made_by], DIGITS)

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
        if FLATTEN in self.stack.settings:
            return f"{FLATTEN} changes what runs"
        return None

    def find(self) -> Estimate | None:
        """The answer, kept or replayed; None if it has to be traced."""
        found = find_answer(Estimate, self._question, self.stack) or self._replayed()
        if disk.is_on():
            logger.info("answer %s", found.notes["seconds"] if found else "has to be traced")
        return found

    def keep(self, found: Estimate) -> None:
        """Keep an answer for the same question."""
        keep_answer(self._question, self.stack, found)

    def recordings(self) -> Iterator[tuple[Path, str, list[dict[str, Any]]]]:
        """The recordings of this question, this user's own first: their file, when they were made, and themselves.

        Those of one file are for boxes of sizes that do not overlap but at their edges.
        """
        if self.unrecordable or not disk.is_on():
            return
        for path, data in disk.find_all("traces", self.key):
            yield path, data["made"], data["recordings"]
        if (found := self._shipped) and not self._outdated:
            path = shipped.path_of(self.workload.model, self.workload.stage)
            yield path, found["made"], shipped.recordings_of(found, kind_of(self.workload))

    @cached_property
    def _shipped(self) -> dict[str, Any] | None:
        return shipped.shipped(self.workload.model, self.workload.stage)

    @cached_property
    def _outdated(self) -> str | None:
        if (found := self._shipped) is None:
            return None
        return shipped.why_not(found, self.workload, self.spec, self.stack.torch_release)

    @property
    def why_traced(self) -> str | None:
        """Why shipped recordings of the model did not serve; None where there are none, or there can be none."""
        if self.unrecordable or not disk.is_on() or self._shipped is None:
            return None
        if self._outdated:
            return self._outdated
        kind = kind_of(self.workload)
        if kind not in self._shipped["of"]:
            return f"no recording of {kind}"
        grids = [grid_of(recording) for recording in shipped.recordings_of(self._shipped, kind)]
        if not any(grid.holds(self.size) for grid in grids):
            return "this size lies outside the recordings"
        return "this card runs other kernels than the recordings"

    def keep_recordings(self, recordings: list[dict[str, Any]]) -> Path:
        """Keep recordings; returns their file. Raises OSError."""
        of = f"{self.workload.model}/{self.workload.stage}/{kind_of(self.workload)}"
        data = {"made": _today(), "of": of, "recordings": recordings}
        return disk.keep("traces", self.key, data)

    @property
    def _question(self) -> tuple[Any, ...]:
        return self.key, self.size, asdict(self.stack), self.context_bytes, self.workload.model

    def _replayed(self) -> Estimate | None:
        started = time.perf_counter()
        for _, made, recordings in self.recordings():
            for recording in recordings:
                try:
                    traced = replay(recording, self.size, self.stack)
                except Elsewhere:
                    continue
                traced.notes["seconds"] = f"replayed from a recording of {made}"
                found = answer(traced, traced.on(self.stack, self.context_bytes), started=started)
                return estimate_of(found, self.workload, self.spec)
        return None


def find_answer(kind: type[Answer], question: Any, stack: Stack) -> Answer | None:
    """The answer that was kept for the same question and stack, by the same code."""
    started = time.perf_counter()
    if (data := disk.find("answers", _answer_name(question, stack))) is None:
        return None
    found: Answer = from_dict(kind, data["estimate"])
    notes = found.notes | {"seconds": f"kept from the same estimate of {data['made']}"}
    return replace(found, notes=notes, seconds=time.perf_counter() - started)


def keep_answer(question: Any, stack: Stack, found: CallEstimate) -> None:
    """Keep an answer for the same question, unless cuDNN is installed and was silent: the next may hear it."""
    if NO_ANSWER in found.notes.get("stack.planner", ""):
        return
    with suppress(OSError):  # a disk that takes nothing makes the next estimate slower, no more
        disk.keep("answers", _answer_name(question, stack), {"made": _today(), "estimate": asdict(found)})


def _answer_name(question: Any, stack: Stack) -> str:
    """By the question, and all the code that answers it."""
    libraries = [installed(name) for name in ("transformers", "accelerate", "peft")]
    card = gpu_named(stack.gpu)  # of a user's own file, perhaps
    record = disk.digest(card.properties if card else None)
    code = shipped.made_by(stack.torch_release), _own_files(), libraries
    return disk.digest([question, record, code, front_end_version()], DIGITS)


@cache
def _own_files() -> str:
    """Changes with every file of this package and of its plans and cards."""
    package = Path(sys.modules["profiler"].__file__ or "").parent
    folders = [*package.rglob("*.py"), *(CONFIGS / "plans").iterdir(), *(CONFIGS / "gpus").iterdir()]
    return disk.digest(sorted((str(path), (status := path.stat()).st_mtime_ns, status.st_size) for path in folders))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
