"""How a whole generation is told: one line, a row a phase in order of time, and whose bytes the peak is made of."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from profiler.commands.tables import console, print_table, show_first_notes, show_notes, show_options, show_terms
from profiler.data.memory import PhasePeak
from profiler.data.records import CallEstimate
from profiler.data.units import format_bytes

SECOND = 2


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
    top = _highest(found.phases)
    reserved = max(phase.peak.reserved_bytes or 0 for phase in found.phases)
    when = f"{top.name} of the second call" if top.call == SECOND else top.name
    sizes = [f"peak {format_bytes(top.peak.allocated_bytes)} allocated in {when}", f"{format_bytes(reserved)} reserved"]
    sizes += [f"host {format_bytes(found.host.peak)}"] if found.host else []
    verdict = found.fits_line or "whether it fits is not known"
    verdict = f"the whole generation {verdict}" if "phases" in found.notes else verdict
    out.print(f"{title}: {', '.join(sizes)}; {verdict}", style="bold")
    out.print(found.origin)
    show_first_notes(found.notes)
    show_options(found.options)
    print_table(["phase", "on the card", "live", "activations", "allocated", "reserved"], _rows(found.phases))
    if same := [phase.name for phase in found.phases if _is_repeated(phase, found.phases)]:
        out.print(f"second call: {', '.join(same)} as in the first")
    if found.host:
        pinned, pageable = format_bytes(found.host.pinned), format_bytes(found.host.pageable)
        out.print(f"host: pinned {pinned}, pageable {pageable} at most, both {format_bytes(found.host.peak)} at most")
    show_notes(found.notes)
    first = _highest(phase for phase in found.phases if phase.call < SECOND)
    if first.peak.allocated_bytes == found.peak.allocated_bytes:  # of a stage, it may stand elsewhere
        _show_owners(found, first)
    out.print(f"estimated in {found.seconds:.2f} s from {found.events:,} allocator events; nothing was measured")


def _highest(phases: Iterable[PhasePeak]) -> PhasePeak:
    return max(phases, key=lambda phase: phase.peak.allocated_bytes or 0)


def _largest_first(phase: PhasePeak) -> list[tuple[str, int]]:
    return sorted(phase.weights.items(), key=lambda item: -item[1])


def _is_repeated(phase: PhasePeak, phases: Iterable[PhasePeak]) -> bool:
    """Whether a phase of the second call is what it was in the first."""
    return phase.call == SECOND and any(
        other.call < SECOND and vars(other) == vars(phase) | {"call": other.call} for other in phases
    )


def _rows(phases: tuple[PhasePeak, ...]) -> Iterator[list[str]]:
    """A line a component, the largest first; where several stand as in the row before, that is said in their place."""
    before: dict[str, int] = {}
    for phase in phases:
        if _is_repeated(phase, phases):
            continue
        weights = "\n".join(f"{name} {format_bytes(size)}" for name, size in _largest_first(phase))
        same = len(phase.weights) > 1 and phase.weights == before
        before = phase.weights
        sizes = (phase.live, phase.activations, phase.peak.allocated_bytes, phase.peak.reserved_bytes)
        name = f"{phase.name}, again" if phase.call == SECOND else phase.name
        yield [name, "as before" if same else weights or "-", *map(format_bytes, sizes)]


def _show_owners(found: CallEstimate, first: PhasePeak) -> None:
    """Where the peak of the first call stands, its terms, the weights by component, and the largest other tensors."""
    console().print(f"peak of the first call in {first.name}, {found.place.removeprefix('peak ')}")
    show_terms(found)
    weights = [[format_bytes(size), "all", "-", "weights", name] for name, size in _largest_first(first)]
    others = [[format_bytes(t.bytes), *t.form, t.term, f"{t.module} {t.op}".strip()] for t in found.largest]
    print_table(["alive at the peak", "shape", "dtype", "term", "owner"], weights + others)
