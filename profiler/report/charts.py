"""Charts as inline SVG: measured against estimated, the errors of the same rows, and the waterfall of one workload.

Geometry is computed here, drawn by the templates `scatter.svg`, `errors.svg` and `waterfall.svg`, coloured by the
page's style sheet. All are 400 units wide, so that their text is readable unscaled on a phone. Every
chart has a title and a description for screen readers; colour is never the only sign.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, log10

from markupsafe import Markup

from profiler.comparison.case import Comparison
from profiler.data.units import format_bytes
from profiler.report.cells import Step, waterfall_steps
from profiler.report.engine import render
from profiler.report.words import format_clip, name_of, provenance_of

SHAPES = {"exact": "within", "within": "within", "over": "over", "under": "under"}  # of a verdict
LABELS = 5  # points outside their tolerance that are named in the chart of errors
HAIRLINE = 1.0  # width of a bar that would be invisible
LATENT_SHARE = 1 / 50  # below this share of the whole, the waterfall writes the latent's share beside its bar


@dataclass(frozen=True)
class LogAxis:
    """Bytes on a base-2 logarithmic axis: exponents `low` to `high` over the pixels `start` to `end`."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def over(cls, sizes: Iterable[int], start: float, end: float) -> "LogAxis":
        """An axis that holds all `sizes` (positive), ending on powers of two."""
        exponents = [log2(size) for size in sizes]
        low = floor(min(exponents) - 0.1)
        return cls(low, max(ceil(max(exponents) + 0.1), low + 2), start, end)

    def at(self, size: float) -> float:
        """Pixel of `size` bytes."""
        return self.start + (log2(size) - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixel and label of at most six powers of two."""
        step = ceil((self.high - self.low) / 5)
        return [(self.at(2.0**power), power_label(power)) for power in range(self.low, self.high + 1, step)]


@dataclass(frozen=True)
class LinearAxis:
    """Shares (0.01: one percent) on a linear axis that is symmetric around 0."""

    reach: float
    start: float
    end: float

    def at(self, share: float) -> float:
        """Pixel of `share`."""
        return self.start + (share + self.reach) / (2 * self.reach) * (self.end - self.start)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixel and label of five to nine round shares."""
        magnitude = 10.0 ** floor(log10(self.reach / 2))
        step = next(magnitude * n for n in (1, 2, 5, 10) if self.reach / (magnitude * n) <= 4)
        count = floor(self.reach / step + 1e-9)
        return [(self.at(n * step), f"{n * step * 100:+.3g} %" if n else "0") for n in range(-count, count + 1)]


@dataclass(frozen=True)
class Mark:
    """A row as a point of both charts: its places, its shape (the verdict), and its label, empty for most."""

    x: float
    y: float
    error_y: float
    row: Comparison
    name: str
    shape: str
    filled: bool
    label: str
    anchor: str


@dataclass(frozen=True)
class Agreement:
    """Estimated against measured: two drawings, the rows that they show, and the shapes in them for the legend.

    `errors` is the distance from the line of `scatter`, magnified. The shapes are verdicts, and `hollow` for numbers of no
    real GPU.
    """

    scatter: Markup
    errors: Markup
    rows: Sequence[Comparison]
    shapes: Sequence[str]


def draw_agreement(comparisons: Iterable[Comparison]) -> Agreement | None:
    """The rows with both numbers, both above 0 (a logarithm needs that); None without one."""
    rows = [row for row in comparisons if (row.allocated.estimated or 0) > 0 and (row.allocated.measured or 0) > 0]
    if not rows:
        return None
    sizes = [size for row in rows for size in (row.allocated.estimated, row.allocated.measured) if size]
    x, y = LogAxis.over(sizes, 58, 390), LogAxis.over(sizes, 324, 24)
    limits = {row.tolerance for row in rows}
    reach = max(abs(row.allocated.error or 0) * 1.15 for row in rows)
    axis = LinearAxis(max(reach, 0.001, *(limit * 1.6 for limit in limits)), 324, 24)
    marks = _marks(rows, x, y, axis)
    bands = [(limit, log2(1 + limit), -log2(1 - limit)) for limit in sorted(limits) if limit < 1]
    unit = abs(y.end - y.start) / (y.high - y.low)
    scatter = render("scatter.svg", x=x, y=y, unit=unit, bands=bands, marks=marks)
    edges = [(axis.at(min(limit, axis.reach)), axis.at(-min(limit, axis.reach))) for limit in limits]
    errors = render("errors.svg", x=x, y=axis, bands=edges, marks=marks)
    present = {mark.shape for mark in marks} | {"hollow" for mark in marks if not mark.filled}
    shapes = [shape for shape in ("within", "over", "under", "other", "hollow") if shape in present]
    return Agreement(scatter, errors, rows, shapes)


def waterfall(comparison: Comparison, number: int) -> Markup | None:
    """From latent to device bytes, a row a step, a bar a side; `number` makes its ids unique. None without numbers."""
    steps = waterfall_steps(comparison)
    sizes = [
        size for step in steps for size in (step.pair.estimated, step.pair.measured) if size is not None and size > 0
    ]
    if not sizes:
        return None
    return render("waterfall.svg", number=number, title=name_of(comparison), **_Waterfall(steps, sizes).drawing())


def power_label(power: int) -> str:
    """2^`power` bytes: `64 MiB`."""
    unit = min(max(power // 10, 0), 4)
    return f"{2.0 ** (power - 10 * unit):g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


class _Waterfall:
    """Geometry of one waterfall: linear bars that add up, dots on a logarithmic axis, the numbers at the right."""

    LEFT, WIDTH = 72.0, 172.0
    LOG_START, LOG_END = 258.0, 326.0
    TOP = 18.0

    def __init__(self, steps: Sequence[Step], sizes: Sequence[int]) -> None:
        self.steps = steps
        self.whole = max(sizes)
        self._largest = next(s.name for s in steps if self.whole in (s.pair.estimated, s.pair.measured))
        self.log = LogAxis.over(sizes, self.LOG_START, self.LOG_END)
        self.sides = [
            side
            for side in ("estimated", "measured")
            if any(getattr(s.pair, side) is not None for s in steps if s.role != "latent")
        ]
        self.height = 13.0 * max(len(self.sides), 1) + 6

    def drawing(self) -> dict[str, object]:
        """What the template draws: the rows, the latent, and for each side its bars, totals, dots and numbers."""
        rows = [(self.TOP + n * self.height, step) for n, step in enumerate(self.steps)]
        totals = [(step.name, _primary(step)) for step in self.steps if step.role == "total"]
        return {
            "bottom": self.TOP + len(rows) * self.height,
            "height": self.height,
            "rows": [(y, step.name, step.role) for y, step in rows],
            "layers": [self._layer(rows[1:], 13 * lane + 4, side) for lane, side in enumerate(self.sides)],
            "latent": self._latent(*rows[0]),
            "whole": format_bytes(self.whole),
            "ends": (power_label(self.log.low), power_label(self.log.high)),
            "summary": ", ".join(f"{name} {format_bytes(size)}" for name, size in totals if size is not None),
        }

    def _latent(self, y: float, step: Step) -> dict[str, object]:
        size = step.pair.estimated or 0
        return {
            "size": size,
            "y": y + self.height / 2 - 4.5,
            "w": max(self._scale(size), HAIRLINE),
            "dot": self.log.at(size) if size else None,
            "share": f"1/{self.whole / size:,.0f} of {self._largest}" if 0 < size < self.whole * LATENT_SHARE else "",
            "text": format_bytes(step.pair.estimated),
        }

    def _layer(self, rows: Sequence[tuple[float, Step]], offset: float, side: str) -> dict[str, object]:
        """One side's bars and numbers. A term starts where the ones before it end; a total starts at 0."""
        bars, numbers, end = [], [], 0
        for y, step in rows:
            size: int | None = getattr(step.pair, side)
            same = step.borrowed and side == "estimated"
            numbers.append((y + offset + 8, "as measured" if same else format_bytes(size)))
            if size is None:
                continue
            start = 0 if step.role == "total" else end
            end = start + size
            if size > 0:
                width = max(self._scale(size), HAIRLINE)
                bars.append((step.role, self.LEFT + self._scale(start), y + offset, width, self.log.at(size)))
        return {"side": side, "bars": bars, "numbers": numbers}

    def _scale(self, size: int) -> float:
        return size / self.whole * self.WIDTH


def _primary(step: Step) -> int | None:
    return step.pair.measured if step.pair.measured is not None else step.pair.estimated


def _marks(rows: Sequence[Comparison], x: LogAxis, y: LogAxis, axis: LinearAxis) -> list[Mark]:
    named: list[tuple[float, float]] = []
    marks = []
    for row in sorted(rows, key=lambda row: abs(row.allocated.error or 0), reverse=True):
        estimated, measured = row.allocated.estimated or 1, row.allocated.measured or 1
        place = (x.at(measured), axis.at(row.allocated.error or 0))
        outside = row.verdict in ("over", "under") and len(named) < LABELS
        label = outside and all(abs(place[1] - other[1]) > 13 or abs(place[0] - other[0]) > 190 for other in named)
        if label:
            named.append(place)
        marks.append(
            Mark(
                *(place[0], y.at(estimated), place[1], row),
                name=f"{name_of(row)} {format_clip(row.record.workload)}",
                shape=SHAPES.get(row.verdict, "other"),
                filled=provenance_of(row) == "measured",
                label=_shorten(name_of(row)) if label else "",
                anchor="start" if place[0] < 224 else "end",
            )
        )
    return marks


def _shorten(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
