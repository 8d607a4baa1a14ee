"""The one template engine of the reports: autoescape on, a missing name is an error, templates from the package."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from profiler.data.text import visible
from profiler.data.units import format_bytes, format_percent


@cache
def environment() -> Environment:
    """Templates of this package. Every value is escaped; trusted markup has to be `Markup`."""
    engine = Environment(
        loader=PackageLoader("profiler.report"),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= {"size": format_bytes, "exact": format_exact, "percent": format_percent, "shape": format_shape}
    return engine


def render(template: str, **context: object) -> Markup:
    """A template's text: markup that other templates may take as it is."""
    return Markup(environment().get_template(template).render(context))


@cache
def asset(name: str) -> str:
    """The text of a style sheet or script beside the templates."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def format_exact(size: int | None) -> str:
    """`size` to the byte, with thousands separators; `unknown` for None."""
    return "unknown" if size is None else f"{size:,} B"


def format_shape(shape: tuple[int, ...]) -> str:
    """A shape joined by multiplication signs; `scalar` for none."""
    return "\u00d7".join(map(str, shape)) or "scalar"
