"""Figures that others published for stages that this project also runs: `results/reference/published.yaml`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from profiler.data.section import PositiveInt, Section
from profiler.data.stack import Stack
from profiler.data.workload import DtypeName, StageName, Workload
from profiler.files.load import read_as
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.spec import Size

PublishedQuantity = Literal["allocated", "reserved", "reserved_growth"]


@dataclass(frozen=True, kw_only=True)
class Published(Section):
    """One figure. `half_digit` is half its last printed digit in bytes; `assumed` what its source does not state."""

    id: str
    model: str
    stage: StageName
    size: Size
    dtype: DtypeName
    gpu: str
    torch: str
    cudnn: PositiveInt | None = None
    quantity: PublishedQuantity
    printed: str
    bytes: PositiveInt
    half_digit: PositiveInt
    assumed: dict[str, str] = field(default_factory=dict)
    source: str
    notes: str | None = None

    @property
    def workload(self) -> Workload:
        """What was run."""
        return Workload(model=self.model, stage=self.stage, dtype=self.dtype, **vars(self.size))

    @property
    def stack(self) -> Stack:
        """The stack that the source states, or that is assumed for it."""
        return assumed_stack(find_gpu(self.gpu), self.torch, self.cudnn)


@dataclass(frozen=True, kw_only=True)
class Figures(Section):
    """The file."""

    figures: list[Published]


def read_published(path: Path) -> list[Published]:
    """The figures of a file. Raises UserError with every error and its place."""
    return read_as(Figures, path, "a file of published figures").figures
