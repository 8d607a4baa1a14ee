"""Two runs side by side: what rose, what fell, what is new or missing, and in what their stacks differ.

Cases are joined by workload, whatever card they are for: kind and card are shown. A measured number is only ever laid
beside a measured one of the same kind, an estimate beside an estimate; where a case has no such pair, it says why and is
not judged.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from profiler.data.memory import LEVELS
from profiler.data.records import Record, Side
from profiler.data.shown import frame_of
from profiler.data.units import format_bytes, format_percent, less

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
        return less(self.after, self.before)

    @property
    def share(self) -> float | None:
        """The change as a share of what it was."""
        return self.bytes / self.before if self.bytes is not None and self.before else None

    def rose_over(self, share: float) -> bool:
        """Whether it rose by more than `share` of what it was. Asked so that a `share` that is no number passes nothing."""
        return self.bytes is not None and self.bytes > 0 and not self.bytes <= share * (self.before or 0)


@dataclass(frozen=True, kw_only=True)
class CaseDifference:
    """One case of either run. `kind` says what its numbers are, `card` where; the change is that of the allocated peak.

    `lost`: it had numbers in the first run, and failed in the second.
    """

    key: str
    kind: str
    card: str
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
        return [case for case in self.cases if case.lost or any(delta.rose_over(share) for delta in case.deltas)]

    def to_frame(self) -> "pd.DataFrame":
        """One row a case, sizes in bytes, unknown as NA."""
        sides = [(name, side) for name in LEVELS for side in ("before", "after")]
        return frame_of(
            [
                {"key": case.key, "kind": case.kind, "card": case.card, "change": case.change, "reason": case.reason}
                | {f"{name}_{side}_bytes": getattr(getattr(case, name), side) for name, side in sides}
                for case in self.cases
            ]
        )


def difference(before: Iterable[Record], after: Iterable[Record]) -> RunDifference:
    """Lay two runs side by side."""
    old, new = ({record.key: record for record in records} for records in (before, after))
    partner = _partners(old.values(), new.values())
    joined = {record.key for record in partner.values()}
    cases = [_case(record, partner.get(key)) for key, record in old.items()]
    cases += [_case(None, record) for key, record in new.items() if key not in joined]
    return RunDifference(cases, _stack_difference(_values(old.values()), _values(new.values())))


def _partners(before: Iterable[Record], after: Iterable[Record]) -> dict[str, Record]:
    """By the key of a record of the first run, its partner in the second.

    Of the same key; else of the same workload on another card, with numbers of the same kind if there are any.
    """
    alike: tuple[Callable[[Record], Any], ...] = (
        lambda record: record.key,
        lambda record: (record.workload.key, _numbers(record)[0]),
        lambda record: record.workload.key,
    )
    found: dict[str, Record] = {}
    left = list(after)
    for what in alike:
        waiting: dict[Any, deque[Record]] = defaultdict(deque)
        for record in left:
            waiting[what(record)].append(record)
        for record in before:
            if record.key not in found and waiting[what(record)]:
                found[record.key] = waiting[what(record)].popleft()
        left = [record for records in waiting.values() for record in records]
    return found


def _case(old: Record | None, new: Record | None) -> CaseDifference:
    (old_kind, before), (new_kind, after) = _numbers(old), _numbers(new)
    kind, apart = old_kind, bool(old and new) and old_kind != new_kind
    sides = (None, None) if apart else (before, after)
    levels = {of: Delta(*(getattr(side.peak, f"{of}_bytes") if side else None for side in sides)) for of in LEVELS}
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
    lost = new is not None and before is not None and after is None
    there = [record for record in (old, new) if record]
    key = there[0].key if len({record.key for record in there}) == 1 else there[0].workload.key
    cards = dict.fromkeys(record.stack.gpu or record.stack.device for record in there if record.stack)
    return CaseDifference(
        key=key, kind=kind, card=" -> ".join(cards) or "unknown", change=change, reason=reason, lost=lost, **levels
    )


def _numbers(record: Record | None) -> tuple[str, Side | None]:
    """The kind of a record's numbers and the side that has them: the measured one before the estimated one."""
    if record is None:
        return "none", None
    if record.status == "ok" and record.measurement is not None:
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
