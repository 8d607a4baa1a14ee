"""How the peak grows with frames and with area: cases that differ in nothing else, as lines on two logarithmic axes."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import log2, prod
from typing import Any

from markupsafe import Markup

from profiler.comparison.case import Comparison
from profiler.report.charts import LogAxis
from profiler.report.engine import render
from profiler.report.words import card_of, name_of, peak_of, plural

MOST = 6  # lines that can be told apart


@dataclass(frozen=True)
class Series:
    """Cases of one workload, rising in x, each with its x; all have a peak."""

    name: str
    points: Sequence[tuple[int, Comparison]]

    @property
    def words(self) -> str:
        """How much the peak grows from end to end."""
        (low, first), (high, _) = self.points[0], self.points[-1]
        return f"{high / low:.3g} times as much, {self.end / (peak_of(first) or 1):.3g} times the peak"

    @property
    def end(self) -> int:
        """The last peak."""
        return peak_of(self.points[-1][1]) or 0


def draw_growth(comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """Growth with frames and with area, or with all pixels where both change at once. Without a series, no chart.

    A chart is its `drawing`, what it is `over`, the `series` drawn, and how many are `hidden`.
    """
    rows = [row for row in comparisons if row.record.measurement or row.record.estimate]
    found = [_chart("frames", rows, "frames"), _chart("area in pixels", rows, "height", "width")]
    whole = _chart("pixels of the clip", rows, "frames", "height", "width")
    return [chart for chart in found if chart] or [chart for chart in (whole,) if chart]


def _chart(over: str, rows: Sequence[Comparison], *axes: str) -> dict[str, Any] | None:
    """The chart over the product of `axes`: cases are one series where their workloads differ in these alone."""
    groups: dict[Hashable, list[Comparison]] = defaultdict(list)
    for row in rows:
        rest: Any = dict.fromkeys(axes, 1)
        groups[replace(row.record.workload, **rest), card_of(row.record)].append(row)
    series = [line for group in groups.values() if (line := _series(group, over, axes)) is not None]
    series.sort(key=lambda line: -line.end)
    drawn = series[:MOST]
    hidden = len(series) - len(drawn)
    return {"drawing": _draw(over, drawn), "over": over, "series": drawn, "hidden": hidden} if drawn else None


def _series(rows: Sequence[Comparison], over: str, axes: Sequence[str]) -> Series | None:
    points = {prod(getattr(row.record.workload, axis) for axis in axes): row for row in rows}
    known = [(x, points[x]) for x in sorted(points) if peak_of(points[x])]
    if len(known) < 2:
        return None
    work = rows[0].record.workload
    fixed = {"frames": f"{work.height}\u00d7{work.width}", "area in pixels": plural(work.frames, "frame")}.get(over, "")
    parts = [name_of(rows[0]), fixed, work.dtype, work.options_key, card_of(rows[0].record)]
    return Series(", ".join(part for part in parts if part), known)


def _draw(over: str, series: Sequence[Series]) -> Markup:
    points = [point for line in series for point in line.points]
    sizes = [size for _, row in points for size in (row.allocated.estimated, row.allocated.measured) if size]
    y, places = LogAxis.over(sizes, 324, 24), {at for at, _ in points}
    x = LogAxis(log2(min(places)), log2(max(places)), 64, 370)
    ticks = {x.at(at): f"{at:,}" for at in places}
    return render(
        "growth.svg",
        over=over,
        x=x,
        y=y,
        ticks=_apart(ticks),
        slope=y.unit * (x.high - x.low),
        series=series,
        labels=_labels([(x.at(line.points[-1][0]), y.at(line.end)) for line in series]),
    )


def _labels(ends: Sequence[tuple[float, float]]) -> list[tuple[float, float, str]]:
    """The numbers of the lines at their ends; lines that end in one place share a label."""
    found: list[tuple[float, float, str]] = []
    for number, (x, y) in enumerate(ends, 1):
        for at, (other_x, other_y, text) in enumerate(found):
            if abs(x - other_x) < 16 and abs(y - other_y) < 9:
                found[at] = (other_x, other_y, f"{text}, {number}")
                break
        else:
            found.append((x, y, str(number)))
    return found


def _apart(ticks: dict[float, str], least: float = 46.0) -> list[tuple[float, str]]:
    """The ticks whose labels do not touch; the last one stays."""
    kept: list[tuple[float, str]] = []
    for at, label in sorted(ticks.items(), reverse=True):
        if not kept or kept[-1][0] - at >= least:
            kept.append((at, label))
    return kept
