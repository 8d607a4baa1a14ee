"""Charts as inline SVG: measured against estimated, the errors of the same rows, and the waterfall of one workload.

Geometry is computed here, drawn by the templates `scatter.svg`, `errors.svg` and `waterfall.svg`, coloured by the
page's style sheet. All are 400 units wide, so that their text is readable unscaled on a phone. Every
chart has a title and a description for screen readers; colour is never the only sign.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, log10
from typing import Any

from markupsafe import Markup

from profiler.comparison.case import Comparison
from profiler.data.units import format_bytes
from profiler.report.cells import SIDES, Step, waterfall_steps
from profiler.report.engine import render
from profiler.report.words import format_clip, name_of, provenance_of

SHAPES = {"exact": "within", "within": "within", "over": "over", "under": "under"}  # of a verdict
LABELS = 5  # points outside their tolerance that are named in the chart of errors
LEFT, WIDTH, TOP = 72.0, 172.0, 18.0  # of the waterfall's bars
HAIRLINE = 1.0  # width of a bar that would be invisible
LATENT_SHARE = 1 / 50  # below this share of the whole, the waterfall writes the latent's share beside its bar


@dataclass(frozen=True)
class Axis:
    """A linear axis: values `low` to `high` over the pixels `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Pixel of `value`."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


class LogAxis(Axis):
    """A base-2 logarithmic axis; `low` and `high` are exponents."""

    @classmethod
    def over(cls, sizes: Iterable[int], start: float, end: float) -> "LogAxis":
        """An axis that holds all `sizes` (bytes, positive), ending on powers of two."""
        exponents = [log2(size) for size in sizes]
        low = floor(min(exponents) - 0.1)
        return cls(low, max(ceil(max(exponents) + 0.1), low + 2), start, end)

    def at(self, value: float) -> float:
        """Pixel of `value`."""
        return super().at(log2(value))

    @property
    def unit(self) -> float:
        """Pixels of a doubling."""
        return abs(self.end - self.start) / (self.high - self.low)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixel and label of at most six powers of two."""
        step = ceil((self.high - self.low) / 5)
        return [(self.at(2.0**power), power_label(power)) for power in range(int(self.low), int(self.high) + 1, step)]


class ShareAxis(Axis):
    """Shares (0.01: one percent) on a linear axis that is symmetric around 0."""

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixel and label of five to nine round shares."""
        magnitude = 10.0 ** floor(log10(self.high / 2))
        step = next(magnitude * n for n in (1, 2, 5, 10) if self.high / (magnitude * n) <= 4)
        count = floor(self.high / step + 1e-9)
        return [(self.at(n * step), f"{n * step * 100:+.3g} %" if n else "0") for n in range(-count, count + 1)]


def draw_agreement(comparisons: Iterable[Comparison]) -> dict[str, Any] | None:
    """Estimated against measured, over the rows with both numbers above 0 (a logarithm needs that); None without one.

    Two drawings, `scatter` and `errors` (the distance from its line, magnified), the `rows` that they show, and for the
    legend the `shapes` in them: verdicts, and `hollow` for numbers of no real GPU.
    """
    rows = [row for row in comparisons if (row.allocated.estimated or 0) > 0 and (row.allocated.measured or 0) > 0]
    if not rows:
        return None
    sizes = [size for row in rows for size in (row.allocated.estimated, row.allocated.measured) if size]
    x, y = LogAxis.over(sizes, 58, 390), LogAxis.over(sizes, 324, 24)
    limits = {row.tolerance for row in rows}
    reach = max(abs(row.allocated.error or 0) * 1.15 for row in rows)
    reach = max(reach, 0.001, *(limit * 1.6 for limit in limits))
    axis = ShareAxis(-reach, reach, 324, 24)
    marks = _marks(rows, x, y, axis)
    bands = [(limit, log2(1 + limit), -log2(1 - limit)) for limit in sorted(limits) if limit < 1]
    scatter = render("scatter.svg", x=x, y=y, unit=y.unit, bands=bands, marks=marks)
    edges = [(axis.at(min(limit, reach)), axis.at(-min(limit, reach))) for limit in limits]
    errors = render("errors.svg", x=x, y=axis, bands=edges, marks=marks)
    present = {mark["shape"] for mark in marks} | {"hollow" for mark in marks if not mark["filled"]}
    shapes = [shape for shape in ("within", "over", "under", "other", "hollow") if shape in present]
    return {"scatter": scatter, "errors": errors, "rows": rows, "shapes": shapes}


def waterfall(comparison: Comparison, number: int) -> Markup | None:
    """From latent to device bytes, a row a step, a bar a side; `number` makes its ids unique. None without numbers.

    The bars are linear and add up, the dots stand on a logarithmic axis, the numbers at the right.
    """
    steps = waterfall_steps(comparison)
    sizes = [size for step in steps for size in (step.pair.estimated, step.pair.measured) if size and size > 0]
    if not sizes:
        return None
    whole, log = max(sizes), LogAxis.over(sizes, 258, 326)
    sides = [side for side in SIDES if any(getattr(step.pair, side) is not None for step in steps[1:])]
    height = 13.0 * max(len(sides), 1) + 6
    rows = [(TOP + n * height, step) for n, step in enumerate(steps)]
    totals = [(step.name, _primary(step)) for step in steps if step.role == "total"]
    latent, largest = steps[0].pair.estimated, next(s for s in steps if whole in (s.pair.estimated, s.pair.measured))
    return render(
        "waterfall.svg",
        number=number,
        title=name_of(comparison),
        bottom=TOP + len(rows) * height,
        height=height,
        rows=[(y, step.name, step.role) for y, step in rows],
        layers=[_layer(rows[1:], 13 * lane + 4, side, whole, log) for lane, side in enumerate(sides)],
        latent={
            "size": latent or 0,
            "y": TOP + height / 2 - 4.5,
            "w": _bar(latent or 0, whole),
            "dot": log.at(latent) if latent else None,
            "share": f"1/{whole / latent:,.0f} of {largest.name}" if latent and latent < whole * LATENT_SHARE else "",
            "text": format_bytes(latent),
        },
        whole=format_bytes(whole),
        ends=(power_label(int(log.low)), power_label(int(log.high))),
        summary=", ".join(f"{name} {format_bytes(size)}" for name, size in totals if size is not None),
    )


def power_label(power: int) -> str:
    """2^`power` bytes: `64 MiB`."""
    unit = min(max(power // 10, 0), 4)
    return f"{2.0 ** (power - 10 * unit):g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def _layer(rows: Sequence[tuple[float, Step]], offset: float, side: str, whole: int, log: LogAxis) -> dict[str, object]:
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
            bars.append((step.role, LEFT + start / whole * WIDTH, y + offset, _bar(size, whole), log.at(size)))
    return {"side": side, "bars": bars, "numbers": numbers}


def _bar(size: int, whole: int) -> float:
    return max(size / whole * WIDTH, HAIRLINE)


def _primary(step: Step) -> int | None:
    return step.pair.measured if step.pair.measured is not None else step.pair.estimated


def _marks(rows: Sequence[Comparison], x: LogAxis, y: LogAxis, axis: ShareAxis) -> list[dict[str, Any]]:
    """The rows as points of both charts, the farthest first: their places, the verdict as a shape, a label for few."""
    named: list[tuple[float, float]] = []
    marks = []
    for row in sorted(rows, key=lambda row: abs(row.allocated.error or 0), reverse=True):
        estimated, measured = row.allocated.estimated or 1, row.allocated.measured or 1
        left, top = place = (x.at(measured), axis.at(row.allocated.error or 0))
        outside = row.verdict in ("over", "under") and len(named) < LABELS
        label = outside and all(abs(top - other[1]) > 13 or abs(left - other[0]) > 190 for other in named)
        if label:
            named.append(place)
        marks.append(
            {
                "row": row,
                "x": left,
                "y": y.at(estimated),
                "error_y": top,
                "name": f"{name_of(row)} {format_clip(row.record.workload)}",
                "shape": SHAPES.get(row.verdict, "other"),
                "filled": provenance_of(row) == "measured",
                "label": _shorten(name_of(row)) if label else "",
                "anchor": "start" if left < 224 else "end",
            }
        )
    return marks


def _shorten(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
