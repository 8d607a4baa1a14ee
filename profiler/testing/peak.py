"""What the mark of a test asks, and the fixture that checks it: the peak of a call against a limit and a baseline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from profiler.data.units import format_bytes, parse_bytes
from profiler.errors import UserError
from profiler.testing.baseline import Baseline, Level

if TYPE_CHECKING:
    from profiler.data.records import CallEstimate
    from profiler.data.workload import Placement
    from profiler.diagnosis.hotspots import Hotspots

MARK = "peak_memory"
SIGNATURE = '("8 GiB", gpu="rtx-4090", level="allocated", torch=None, cudnn=None, alloc_conf=None)'
LEVELS = ("allocated", "reserved")
SHOWN = 6  # of what is alive at the peak


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the marks of a test ask: at most `limit` bytes at `level` on the card `gpu`; the rest as for `estimate_call`."""

    gpu: str
    limit: int | None = None
    level: Level = "allocated"
    torch: str | None = None
    cudnn: int | None = None
    alloc_conf: str | None = None


def asked_of(item: pytest.Item) -> Asked:
    """What the marks of a test, of its class and of its module ask together; the closest has the last word.

    Raises UserError for what a mark cannot say, and for a card that nobody names.
    """
    given: dict[str, Any] = {}
    for mark in reversed([*item.iter_markers(MARK)]):
        if len(mark.args) > 1:
            raise UserError(f"{MARK}: takes one limit, such as {MARK}{SIGNATURE}")
        given |= {**({"limit": mark.args[0]} if mark.args else {}), **mark.kwargs}
    if wrong := given.keys() - {field.name for field in fields(Asked)}:
        raise UserError(f"{MARK}: has no {', '.join(sorted(wrong))}; it takes {MARK}{SIGNATURE}")
    if "gpu" not in given:
        raise UserError(f"{MARK}: name the card, as in @pytest.mark.{MARK}{SIGNATURE}; `latentmeter cards` lists them")
    if (level := given.get("level", Asked.level)) not in LEVELS:
        raise UserError(f"{MARK}: no level {level!r}; one of {', '.join(LEVELS)}")
    if (limit := given.get("limit")) is not None:
        given["limit"] = parse_bytes(limit)
    return Asked(**given)


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Fail the test with what a UserError says, and nothing else: its traceback is ours, and tells a user nothing."""
    try:
        yield
    except UserError as error:
        text = str(error) if str(error).startswith(MARK) else f"{MARK}: {error}"
        raise pytest.fail.Exception(text, pytrace=False) from None


class PeakMemory:
    """The fixture `peak_memory`. Called, it fails the test with the hot spot where the call needs too much."""

    def __init__(self, item: pytest.Item, asked: Asked, baseline: Baseline | None) -> None:
        self._item, self._asked, self._baseline = item, asked, baseline
        self.called: set[str] = set()

    def __call__(
        self,
        function: Callable[..., Any],
        *,
        inputs: Sequence[Any] | Mapping[str, Any] = (),
        modules: Any = None,
        placement: "Placement | None" = None,
        name: str = "",
    ) -> "CallEstimate":
        """Estimate a call on the card of the mark; arguments as for `profiler.estimate_call`. Returns the estimate.

        Fails the test where the highest moment of two calls is above the limit, where the card does not hold them, and where
        it grew over the baseline. A test with several calls gives each a `name`. Raises ModelError for a call that cannot be
        traced.
        """
        from profiler.estimation.calls import estimate_call

        if name in self.called:
            pytest.fail(f"{MARK}: called twice as {name!r}: give each call a name of its own, name=...", pytrace=False)
        self.called.add(name)
        asked = self._asked
        card: dict[str, Any] = {"torch": asked.torch, "cudnn": asked.cudnn, "alloc_conf": asked.alloc_conf}

        @cache
        def spot() -> "Hotspots":
            from profiler.diagnosis.call import call_hotspots
            from profiler.machine.target import target_stack

            on = target_stack(asked.gpu, asked.torch, asked.cudnn, None, asked.alloc_conf)
            return call_hotspots(function, inputs, modules, placement, *on)

        with mistakes_told():
            found = estimate_call(function, inputs=inputs, modules=modules, placement=placement, gpu=asked.gpu, **card)
            wrong = [*_above(found, asked)]
            if self._baseline is not None:
                key = f"{node_id(self._item)} {name}".rstrip()
                wrong += self._baseline.judge(key, found, asked.level, spot, self._item.user_properties)
        if wrong:
            pytest.fail("\n".join([*wrong, *tell_hotspot(spot())]), pytrace=False)
        return found


def _above(found: "CallEstimate", asked: Asked) -> Iterator[str]:
    """What is above the limit, and above the card, a line each."""
    size, most = found.most(asked.level), asked.limit
    if most is not None and size > most:
        over = f"{format_bytes(size - most)} above the limit of {format_bytes(most)}"
        first = getattr(found.peak, f"{asked.level}_bytes")
        later = "" if size == first else f", in a second call; {format_bytes(first)} in the first"
        yield f"peak memory: {format_bytes(size)} {asked.level}, {over}{later}"
    if found.fits is False:
        yield f"peak memory: {found.fits_line}"


def tell_hotspot(spot: "Hotspots") -> Iterator[str]:
    """Where the peak is and what is alive there, as `latentmeter hotspots` says it; a line each."""
    from profiler.data.shown import first_notes
    from profiler.diagnosis.findings import describe_alike
    from profiler.diagnosis.lives import group_alike

    yield f"estimated for {spot.stack.title}"
    yield from (f"note: {text}" for text in first_notes(spot.notes).values())
    yield f"hot spot: {spot.answer[0]}"
    sizes = ", ".join(f"{name} {format_bytes(size)}" for name, size in [*spot.by_module.items()][:SHOWN])
    yield f"at the peak: {sizes}"
    yield from (f"  {describe_alike(group)}" for group in group_alike(spot.made)[:SHOWN])


def node_id(item: pytest.Item) -> str:
    """The item's id without the group that xdist puts behind it with `--dist loadgroup`, on pytest 8."""
    return item.nodeid[: item.nodeid.rindex(item.name) + len(item.name)]
