"""Charts as inline SVG: measured against estimated, and the errors of the same rows.

Geometry is computed here, drawn by the templates `scatter.svg` and `errors.svg`, coloured by the page's style sheet. The
waterfall of one workload is drawn by the page's script. All are 400 units wide, so that their text is readable unscaled on
a phone. Every chart has a title and a description for screen readers; colour is never the only sign.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, log10
from typing import Any

from profiler.comparison.case import Comparison
from profiler.data.units import format_bytes
from profiler.report.engine import render
from profiler.report.words import format_clip, measured_word, name_of

SHAPES = {"exact": "within", "within": "within", "over": "over", "under": "under"}  # of a verdict
LABELS = 5  # points outside their tolerance that are named in the chart of errors


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
        return [(self.at(2**power), power_label(power)) for power in range(int(self.low), int(self.high) + 1, step)]


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
    marks, word = _marks(rows, x, y, axis), measured_word(rows)
    bands = [(limit, log2(1 + limit), -log2(1 - limit)) for limit in sorted(limits) if limit < 1]
    scatter = render("scatter.svg", word=word, x=x, y=y, unit=y.unit, bands=bands, marks=_distinct(marks, "y"))
    edges = [(axis.at(min(limit, reach)), axis.at(-min(limit, reach))) for limit in limits]
    errors = render("errors.svg", word=word, x=x, y=axis, bands=edges, marks=_distinct(marks, "error_y"))
    present = {mark["shape"] for mark in marks} | {"hollow" for mark in marks if not mark["filled"]}
    shapes = [shape for shape in ("within", "over", "under", "other", "hollow") if shape in present]
    return {"scatter": scatter, "errors": errors, "rows": rows, "shapes": shapes}


def power_label(power: int) -> str:
    """2^`power` bytes: `64 MiB`."""
    return re.sub(r"\.0+", "", format_bytes(2**power))


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
                "filled": row.record.kind == "cuda",
                "label": name_of(row) if label else "",
                "anchor": "start" if left < 224 else "end",
            }
        )
    return marks


def _distinct(marks: Sequence[dict[str, Any]], height: str) -> list[dict[str, Any]]:
    """The marks without those that a like one covers, which says how many: thousands of cases are few places."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for mark in marks:
        place = (round(mark["x"] / 4), round(mark[height] / 4), mark["shape"], mark["filled"])
        found.setdefault(place, mark | {"covered": -1})["covered"] += 1
    return [
        mark | {"name": f"{mark['name']} (and {mark['covered']} more here)" if mark["covered"] else mark["name"]}
        for mark in found.values()
    ]
