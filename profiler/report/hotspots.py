"""Hot spots as one HTML file: findings, the timeline as stacked areas, the module tree. Nothing is loaded, nothing runs."""

from typing import Any

from markupsafe import Markup

from profiler.diagnosis.hotspots import Hotspots
from profiler.diagnosis.lives import short_name
from profiler.diagnosis.profile import STANDING
from profiler.diagnosis.remedies import describe_remedy
from profiler.report.charts import Axis
from profiler.report.engine import asset, render
from profiler.report.html import policy

MOSTLY_RESIDENT = 0.6  # of the peak: then the axis starts there, and says so
TICKS = 4
TENSORS = 40


def render_page(found: Hotspots) -> str:
    """The page as text."""
    style = asset("style.css") + asset("hotspots.css")
    return render(
        "hotspots.html",
        found=found,
        chart=timeline_chart(found),
        tree=list(found.visible_modules()),
        short_name=short_name,
        alive=found.made[:TENSORS],
        best=next((remedy for remedy in found.remedies if remedy.lowers == "allocated"), None),
        remedy=describe_remedy,
        style=Markup(style),
        policy=policy(style, ""),
    )


def timeline_chart(found: Hotspots) -> dict[str, Any]:
    """What `areas.svg` draws: stacked areas, allocator events to the right, bytes upwards from `floor`.

    A layer is a group of modules: its upper and its lower edge as (x, bytes), and its bytes at the peak for the legend.
    """
    points, groups, peak = found.timeline.points, found.timeline.groups, found.timeline.peak
    floor = found.baseline if found.baseline > MOSTLY_RESIDENT * found.allocated else 0
    first, last = points[0].event, points[-1].event
    events, sizes = Axis(first, max(last, first + 1), 62, 1000), Axis(floor, max(found.allocated, floor + 1), 300, 10)
    x = [events.at(point.event) for point in points]
    layers, below = [], [0] * len(points)
    for n, name in enumerate(groups):
        above = [base + point.by_group[n] for base, point in zip(below, points, strict=True)]
        if not floor or name not in STANDING:
            edges = {"upper": list(zip(x, above, strict=True)), "lower": list(zip(x, below, strict=True))}
            layers.append({"name": name, "at_peak": peak.by_group[n], **edges})
        below = above
    ticks = [floor + (found.allocated - floor) * n // TICKS for n in range(TICKS + 1)]
    return {
        "layers": layers,
        "ticks": ticks,
        "floor": floor,
        "y": lambda size: sizes.at(max(size, floor)),
        "peak_x": x[points.index(peak)],
    }
