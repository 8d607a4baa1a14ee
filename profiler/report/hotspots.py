"""Hot spots as one HTML file: findings, the timeline as stacked areas, the module tree. Nothing is loaded, nothing runs."""

from typing import Any

from markupsafe import Markup

from profiler.data.units import format_bytes
from profiler.diagnosis import lives
from profiler.diagnosis.hotspots import Hotspots
from profiler.diagnosis.profile import ROLES, STANDING
from profiler.diagnosis.remedies import describe_remedy
from profiler.report.charts import Axis
from profiler.report.engine import asset, render
from profiler.report.html import policy

MOSTLY_RESIDENT = 0.6  # of the peak: then the axis starts there, and says so
TICKS = 4
TENSORS = 40
LETTER = 6.5  # units that a letter of a phase's name takes


def render_page(found: Hotspots) -> str:
    """The page as text."""
    style = asset("style.css") + asset("hotspots.css")
    return render(
        "hotspots.html",
        found=found,
        charts=[timeline_chart(found, "wide", 1000, 300), timeline_chart(found, "narrow", 390, 260)],
        role=ROLES[found.source],
        tree=list(found.visible_modules()),
        alive=lives.group_alike(found.made)[:TENSORS],
        lives=lives,
        remedy=describe_remedy,
        style=Markup(style),
        policy=policy(style, ""),
    )


def timeline_chart(found: Hotspots, name: str, width: int, height: int) -> dict[str, Any]:
    """What `areas.svg` draws: stacked areas, allocator events to the right, bytes upwards from `floor`. Text does not
    scale well, so the page has a drawing for a screen and one for a phone, `width` by `height` units each.

    A layer is a group of modules: its upper and its lower edge as (x, bytes), and its bytes for the legend: those at the
    peak, of a generation the most that it ever has.
    A mark is where the peak or the highest moment elsewhere stands, its label, and the class of its line. A phase of a
    generation is where it begins, its width, and its name, with that text where there is room for it.
    """
    points, groups, peak = found.timeline.points, found.timeline.groups, found.timeline.peak
    is_resident = found.baseline > MOSTLY_RESIDENT * found.allocated and not found.phases
    floor = found.baseline if is_resident else 0
    first, last = points[0].event, points[-1].event
    events = Axis(first, max(last, first + 1), 0, width)
    sizes = Axis(floor, max(found.allocated, floor + 1), height - 20, 40)
    x = [events.at(point.event) for point in points]
    layers, below = [], [0] * len(points)
    for n, group in enumerate(groups):
        above = [base + point.by_group[n] for base, point in zip(below, points, strict=True)]
        if not floor or group not in STANDING:
            edges = {"upper": list(zip(x, above, strict=True)), "lower": list(zip(x, below, strict=True))}
            most = max(point.by_group[n] for point in points) if found.phases else peak.by_group[n]
            layers.append({"name": group, "bytes": most, **edges})
        below = above
    marks = [(events.at(peak.event), f"peak {format_bytes(peak.allocated)}", "peak")]
    if (second := found.timeline.second) and found.second:
        marks.append((events.at(second.event), f"next {format_bytes(second.allocated)}", "next"))
    phases = []
    for phase in found.phases:
        left, right = (events.at(min(max(event, first), last)) for event in (phase.start, phase.stop))
        label = phase.name if right - left > LETTER * len(phase.name) else ""
        phases.append((left, right - left, phase.name, label))
    ticks = [floor + (found.allocated - floor) * n // TICKS for n in range(TICKS + 1)]
    return {
        "layers": layers,
        "ticks": ticks,
        "floor": floor,
        "y": lambda size: sizes.at(max(size, floor)),
        "marks": marks,
        "phases": phases,
        "name": name,
        "width": width,
        "height": height,
    }
