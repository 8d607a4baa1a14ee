"""Two runs side by side: what rose, what fell, what is new or missing, and in what their stacks differ.

Cases are joined by key, and where only the cards of two estimates differ, by their workload. A measured number is only ever
laid beside a measured one of the same kind, an estimate beside an estimate; where a case has no such pair, it says why and
is not judged.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from profiler.data.records import LEVELS, Record, Side
from profiler.data.shown import frame_of
from profiler.data.units import format_bytes, format_percent

if TYPE_CHECKING:
    import pandas as pd

Change = Literal["rose", "fell", "equal", "new", "missing", "not comparable"]


@dataclass(frozen=True)
class Delta:
    """One quantity in both runs, in bytes; unknown is None."""

    before: int | None
    after: int | None

    @property
    def bytes(self) -> int | None:
        """After minus before."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def share(self) -> float | None:
        """The change as a share of what it was."""
        return self.bytes / self.before if self.bytes is not None and self.before else None


@dataclass(frozen=True, kw_only=True)
class CaseDifference:
    """One case of either run. `kind` says what its numbers are; the change is that of the allocated peak.

    `lost`: it had numbers in the first run, and failed in the second.
    """

    key: str
    kind: str
    change: Change
    reason: str
    allocated: Delta
    reserved: Delta
    device: Delta
    lost: bool = False

    @property
    def deltas(self) -> tuple[Delta, ...]:
        """Allocated, reserved, device."""
        return self.allocated, self.reserved, self.device


@dataclass(frozen=True)
class RunDifference:
    """All cases in the order of the first run, new ones last; `stack` has the fields that differ, before and after."""

    cases: Sequence[CaseDifference]
    stack: Mapping[str, tuple[str, str]]

    def failures(self, share: float) -> list[CaseDifference]:
        """Cases of which a peak rose by more than `share` of what it was, or whose numbers the second run lost."""
        return [case for case in self.cases if case.lost or any((delta.share or 0) > share for delta in case.deltas)]

    def to_frame(self) -> "pd.DataFrame":
        """One row a case, sizes in bytes, unknown as NA."""
        sides = [(name, side) for name in LEVELS for side in ("before", "after")]
        return frame_of(
            [
                {"key": case.key, "kind": case.kind, "change": case.change, "reason": case.reason}
                | {f"{name}_{side}_bytes": getattr(getattr(case, name), side) for name, side in sides}
                for case in self.cases
            ]
        )


def difference(before: Iterable[Record], after: Iterable[Record]) -> RunDifference:
    """Lay two runs side by side."""
    old, new = ({record.key: record for record in records} for records in (before, after))
    new = _across_cards(old, new)
    cases = [_case(key, old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new])]
    return RunDifference(cases, _stack_difference(_values(old.values()), _values(new.values())))


def _across_cards(old: Mapping[str, Record], new: Mapping[str, Record]) -> dict[str, Record]:
    """`new` under the keys of `old`: the card in an estimate's key does not keep it from the same work on another.

    A workload that either run has on several cards stays apart: nobody knows which belongs to which.
    """
    alone = [
        {work: keys[0] for work, keys in _by_workload(side, other).items() if len(keys) == 1}
        for side, other in ((old, new), (new, old))
    ]
    renamed = {key: alone[0][work] for work, key in alone[1].items() if work in alone[0]}
    return {renamed.get(key, key): record for key, record in new.items()}


def _by_workload(records: Mapping[str, Record], other: Mapping[str, Record]) -> dict[str, list[str]]:
    """The keys of estimates for a card that `other` has not, by workload."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, record in records.items():
        if key not in other and key != record.workload.key:
            found[record.workload.key].append(key)
    return found


def _case(key: str, old: Record | None, new: Record | None) -> CaseDifference:
    (old_kind, before), (new_kind, after) = _numbers(old), _numbers(new)
    kind, apart = old_kind, bool(old and new) and old_kind != new_kind
    sides = (None, None) if apart else (before, after)
    levels = {
        name: Delta(*(getattr(side.peak, f"{name}_bytes") if side else None for side in sides)) for name in LEVELS
    }
    size = levels["allocated"].bytes
    change: Change = "not comparable"
    if old is None:
        kind, change, reason = new_kind, "new", "not in the first run"
    elif new is None:
        change, reason = "missing", "not in the second run"
    elif apart:
        kind = f"{old_kind} in the first run, {new_kind} in the second"
        reason = _why(kind, old, new)
    elif size is None:
        reason = _why(f"{old_kind} in both runs", old, new)
    else:
        change, reason = "rose" if size > 0 else "fell" if size else "equal", ""
        cards = [side.stack.gpu or "CPU" for side in (before, after) if side]
        kind = f"{kind}, {' -> '.join(cards)}" if len(set(cards)) > 1 else kind
    lost = new is not None and before is not None and after is None
    return CaseDifference(key=key, kind=kind, change=change, reason=reason, lost=lost, **levels)


def _numbers(record: Record | None) -> tuple[str, Side | None]:
    """The kind of a record's numbers and the side that has them: the measured one before the estimated one."""
    if record is None:
        return "none", None
    if record.measurement is not None:
        return record.measurement.device_kind, record.measurement
    if record.status == "ok" and record.estimate is not None:
        return "estimated", record.estimate
    return record.status, None


def _why(kinds: str, old: Record, new: Record) -> str:
    messages = dict.fromkeys(record.failure.message for record in (old, new) if record.failure)
    return "; ".join([kinds, *messages])


def _stack_difference(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, tuple[str, str]]:
    """Fields and settings whose values are not the same in both runs."""
    pairs = {name: (before.get(name, set()), after.get(name, set())) for name in [*before, *after]}
    return {
        name: (", ".join(sorted(a)) or "not set", ", ".join(sorted(b)) or "not set")
        for name, (a, b) in pairs.items()
        if a != b
    }


def _values(records: Iterable[Record]) -> dict[str, set[str]]:
    """Every value of each field and setting of the records' stacks."""
    found: dict[str, set[str]] = defaultdict(set)
    for side in filter(None, (record.measurement or record.estimate for record in records)):
        fields = asdict(side.stack)
        settings = fields.pop("settings")
        for name, value in (fields | settings).items():
            found[name].add("unknown" if value is None else str(value))
    return found


def sentence(found: RunDifference) -> str:
    """How many cases changed in which way, and the worst rise."""
    counts = Counter(case.change for case in found.cases)
    text = ", ".join(f"{count} {change}" for change, count in counts.items()) or "no cases"
    risen = [case for case in found.cases if case.change == "rose"]
    if not risen:
        return f"{text}."
    worst = max(risen, key=lambda case: case.allocated.share or 0)
    return (
        f"{text}; the most {format_percent(worst.allocated.share)} "
        f"({format_bytes(worst.allocated.bytes)}): {worst.key}."
    )
