"""How a whole generation is told: one line, a row a phase in order of time, and whose bytes the peak is made of."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from profiler.commands.tables import console, print_table, show_breakdown, show_first_notes, show_notes, show_options
from profiler.data.memory import SECOND, highest, is_repeated, phase_table, when
from profiler.data.records import CallEstimate
from profiler.data.units import format_bytes


@contextmanager
def told_on_terminal() -> Iterator[Callable[[str], None]]:
    """Says on standard error what is done meanwhile, in one line that goes away; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("loading libraries") as status:
        yield lambda line: status.update(Text(line))


def show_generation(title: str, found: CallEstimate) -> None:
    """The highest moment in one line; a row a phase in order of time; then what the peak is made of."""
    out = console()
    top = highest(found.phases)
    reserved = max(phase.peak.reserved_bytes or 0 for phase in found.phases)
    peak = f"peak {format_bytes(top.peak.allocated_bytes)} allocated in {when(top)}"
    sizes = [peak, f"{format_bytes(reserved)} reserved"]
    sizes += [f"host {format_bytes(found.host.peak)}"] if found.host else []
    verdict = found.fits_line or "whether it fits is not known"
    verdict = f"the whole generation {verdict}" if "phases" in found.notes else verdict
    out.print(f"{title}: {', '.join(sizes)}; {verdict}", style="bold")
    out.print(found.origin)
    show_first_notes(found.notes)
    show_options(found.options)
    print_table(*phase_table(found.phases))
    if same := [phase.name for phase in found.phases if is_repeated(phase, found.phases)]:
        out.print(f"second call: {', '.join(same)} as in the first")
    if found.host:
        pinned, pageable = format_bytes(found.host.pinned), format_bytes(found.host.pageable)
        out.print(f"host: pinned {pinned}, pageable {pageable} at most, both {format_bytes(found.host.peak)} at most")
    show_notes(found.notes)
    first = highest(phase for phase in found.phases if phase.call < SECOND)
    if first.peak.allocated_bytes == found.peak.allocated_bytes:  # of a stage, it may stand elsewhere
        out.print(f"peak of the first call in {first.name}, {found.place.removeprefix('peak ')}")
        weights = [[format_bytes(size), "all", "-", "weights", name] for name, size in first.largest_first]
        show_breakdown(found, weights, "owner")
    out.print(f"estimated in {found.seconds:.2f} s from {found.events:,} allocator events; nothing was measured")
