"""Hot spots as one HTML file: findings, the timeline as stacked areas, the module tree. Nothing is loaded, nothing runs."""

from dataclasses import dataclass

from markupsafe import Markup

from profiler.data.units import format_bytes
from profiler.diagnosis.hotspots import Hotspots
from profiler.diagnosis.lives import short_name
from profiler.diagnosis.profile import STANDING
from profiler.diagnosis.remedy import describe_remedy
from profiler.report.engine import asset, render
from profiler.report.html import policy

LEFT, RIGHT, TOP, BOTTOM = 62.0, 1000.0, 10.0, 300.0
MOSTLY_RESIDENT = 0.6  # of the peak: then the axis starts there, and says so
TICKS = 4
TENSORS = 40


@dataclass(frozen=True)
class Layer:
    """A group as an SVG path, with its bytes at the peak for the legend."""

    name: str
    path: str
    at_peak: int


@dataclass(frozen=True)
class Chart:
    """Stacked areas: bytes upwards from `floor`, allocator events to the right."""

    layers: list[Layer]
    ticks: list[tuple[float, str]]
    floor: int
    peak_x: float


def render_page(found: Hotspots) -> str:
    """The page as text."""
    style = asset("style.css") + asset("hotspots.css")
    return render(
        "hotspots.html",
        found=found,
        chart=chart(found),
        tree=list(found.visible_modules()),
        short_name=short_name,
        alive=found.made[:TENSORS],
        best=next((remedy for remedy in found.remedies if remedy.lowers == "allocated"), None),
        remedy=describe_remedy,
        style=Markup(style),
        policy=policy(style, ""),
    )


def chart(found: Hotspots) -> Chart:
    """The timeline's geometry."""
    points, groups = found.timeline.points, found.timeline.groups
    resident = sum(n in STANDING for n in groups)
    floor = found.baseline if found.baseline > MOSTLY_RESIDENT * found.allocated else 0
    first, last = points[0].event, points[-1].event
    x = [LEFT + (point.event - first) / max(1, last - first) * (RIGHT - LEFT) for point in points]

    def y(size: int) -> float:
        return BOTTOM - max(0, size - floor) / max(1, found.allocated - floor) * (BOTTOM - TOP)

    layers, below = [], [0] * len(points)
    peak = found.timeline.peak
    for n, name in enumerate(groups):
        above = [base + point.by_group[n] for base, point in zip(below, points, strict=True)]
        if n >= resident or not floor:
            forth = " ".join(f"{a:.1f},{y(size):.1f}" for a, size in zip(x, above, strict=True))
            back = " ".join(f"{a:.1f},{y(size):.1f}" for a, size in reversed(list(zip(x, below, strict=True))))
            layers.append(Layer(name, f"M{forth} L{back}Z", peak.by_group[n]))
        below = above
    sizes = [floor + (found.allocated - floor) * n // TICKS for n in range(TICKS + 1)]
    return Chart(layers, [(y(size), format_bytes(size)) for size in sizes], floor, x[points.index(peak)])
