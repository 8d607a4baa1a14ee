"""The cases of a sweep file, in order: what to measure, and what only to estimate for a card that is elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from profiler.data.section import Limit, PositiveInt, Section
from profiler.data.units import MOST, MOST_CALLS, parse_bytes
from profiler.data.workload import GENERATE, DtypeName, GenerationOptions, History, MemoryOptions, StageName, Workload
from profiler.errors import UserError
from profiler.files.load import read_as, to_dict
from profiler.files.paths import CONFIGS
from profiler.machine.cards import Gpu, find_gpu
from profiler.models.attention import VARIABLE, environment_backend, with_environment
from profiler.models.find import find_model
from profiler.models.pipeline_folder import find_pipeline
from profiler.models.pipeline_spec import PipelineSpec
from profiler.models.spec import ModelSpec

MOST_CASES = 10_000  # of one entry, which a few short lists can exceed by any factor


@dataclass(frozen=True, kw_only=True)
class Entry(Section):
    """One line of a sweep: every field that may be a list is an axis, and the entry stands for their product.

    `gpu` makes it estimate-only, for that card, with `vram` on its box and `reserve` kept free; without it the case is
    measured here and estimated for this stack. With `stages: [generate]` the `model` is a pipeline.
    """

    model: str
    stages: list[StageName]
    frames: PositiveInt | list[PositiveInt] | None = None
    height: PositiveInt | list[PositiveInt] | None = None
    width: PositiveInt | list[PositiveInt] | None = None
    batch: PositiveInt | list[PositiveInt] = 1
    dtype: DtypeName | list[DtypeName] | None = None
    text_length: PositiveInt | list[PositiveInt] | None = None
    options: MemoryOptions | list[MemoryOptions] = field(default_factory=MemoryOptions)
    history: History | list[History] = field(default_factory=History)
    generation: GenerationOptions | list[GenerationOptions] | None = None
    gpu: str | None = None
    vram: str | None = None
    reserve: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep(Section):
    """A sweep file. A case outside `tolerance_percent` fails the run: 1 by default. `events` keeps each case's streams."""

    name: Annotated[str, Limit(pattern=r"^\w[\w.+-]*$")]  # of its folder in `results`, which is in no other place
    title: str
    device: Literal["auto", "cuda", "cpu"] = "auto"
    timeout_seconds: Annotated[float, Limit(gt=0, le=MOST, allow_inf_nan=False)] = 600.0
    warm_calls: Annotated[int, Limit(ge=0, le=MOST_CALLS)] = 3
    events: bool = True
    tolerance_percent: Annotated[float, Limit(gt=0, allow_inf_nan=False)] | None = None
    cases: Annotated[list[Entry], Limit(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case, with its model. `card` is set where only an estimate is asked, `problem` where the model refuses."""

    workload: Workload
    spec: ModelSpec | PipelineSpec
    card: Gpu | None = None
    problem: str | None = None

    @property
    def key(self) -> str:
        """The key of its record: the workload's, with the card behind it for an estimate alone."""
        return self.workload.key if self.card is None else f"{self.workload.key}@{self.card.id}"


@dataclass(frozen=True)
class Plan:
    """A sweep and its cases, in the order of the file, each key once."""

    sweep: Sweep
    cases: list[Case]

    @property
    def models(self) -> dict[str, ModelSpec]:
        """The models, by the name that their workloads give them."""
        return {case.workload.model: case.spec for case in self.cases if isinstance(case.spec, ModelSpec)}

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two runs the same: the sweep, and its models as their files stand now."""
        models = {name: spec.digest for name, spec in self.models.items()}
        models |= {f"{c.workload.model}/{GENERATE}": c.spec.digest for c in self.cases if c.workload.generation}
        environment = {VARIABLE: backend} if (backend := environment_backend()) else {}
        sweep: dict[str, Any] = to_dict(self.sweep, mode="json", exclude={"events"})
        return sweep | {"models": models} | environment


def plan_sweep(sweep: Sweep, *, allow_pickle: bool = False) -> Plan:
    """The sweep with its cases. Raises UserError that names every entry whose model, card or options are wrong.

    `allow_pickle` lets a measurement read weights from a pickle where a folder has no safetensors.
    """
    cases: dict[str, Case] = {}
    errors = []
    for number, entry in enumerate(sweep.cases):
        try:
            cases |= {case.key: case for case in _cases(entry, allow_pickle)}
        except UserError as error:
            errors.append(f"  cases.{number}: {error}")
    if errors:
        raise UserError("\n".join([f"sweep '{sweep.name}' cannot be planned", *errors]))
    return Plan(sweep, list(cases.values()))


def _cases(entry: Entry, allow_pickle: bool) -> Iterator[Case]:
    spec: ModelSpec | PipelineSpec
    if GENERATE in entry.stages:
        spec = find_pipeline(entry.model)
    else:
        spec = replace(find_model(entry.model), allow_pickle=allow_pickle)
    if not entry.gpu and (entry.vram or entry.reserve):
        raise UserError("vram and reserve need a gpu: what is measured has the memory of this machine's card")
    vram, reserve = (parse_bytes(size) if size else None for size in (entry.vram, entry.reserve))
    card = find_gpu(entry.gpu, vram, reserve or 0) if entry.gpu else None
    names = ("frames", "height", "width", "batch", "dtype", "text_length", "options", "history", "generation")
    axes = [value if isinstance(value := getattr(entry, name), list) else [value] for name in names]
    if prod(map(len, axes)) * len(entry.stages) > MOST_CASES:
        raise UserError(f"more than {MOST_CASES:,} cases; list fewer values, or write a sweep for each part")
    for stage, *values in product(entry.stages, *axes):
        workload = spec.draft(stage, **dict(zip(names, values, strict=True)))
        try:
            if isinstance(spec, ModelSpec):  # what a pipeline takes shows when it is built
                workload = with_environment(workload, spec)
                spec.check(workload)
            problem = None
        except UserError as error:
            problem = str(error)
        yield Case(workload=workload, spec=spec, card=card, problem=problem)


def find_sweep(name: str) -> Sweep:
    """The sweep in file `name`, or the shipped one of that name.

    Raises UserError that names the shipped ones, or every error of the file with its place.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        shipped = {file.stem: file for file in (CONFIGS / "sweeps").glob("*.yaml")}
        if name not in shipped:
            raise UserError(f"no sweep '{name}': give a YAML file, or one of {', '.join(sorted(shipped))}")
        path = shipped[name]
    return read_as(Sweep, path, "a sweep file")
