"""The baseline: the known peaks of tests, in one JSON file that is read whole, compared with, and written by one process.

Under pytest-xdist the workers run the tests. What they find travels with each test's report (`user_properties`) to the
process that started them, which alone writes: nobody overwrites another, and no peak is lost because another test fails.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from profiler.data.units import format_bytes, format_percent
from profiler.errors import UserError

if TYPE_CHECKING:
    from profiler.data.records import CallEstimate
    from profiler.diagnosis.hotspots import Hotspots

SCHEMA = 1
PEAK, SHRANK = "peak_memory", "peak_memory_shrank"  # of a report: for the file, and for the terminal
REST = "everything else"
WORTH = 0.01  # of the peak: whoever owns less is part of the rest
SHOWN = 4  # owners of a growth


@dataclass(frozen=True, kw_only=True)
class Peak:
    """A known peak: the highest bytes of all calls, what is `alive` at that of the first, and the `stack` with its notes."""

    gpu: str
    stack: tuple[str, ...]
    allocated_bytes: int
    reserved_bytes: int
    alive: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """The file: peaks by the id of their test."""

    peaks: dict[str, Peak] = field(default_factory=dict)
    schema: int = SCHEMA


def read_peaks(path: Path) -> dict[str, Peak]:
    """The peaks in `path`, none where there is no file. Raises UserError for a file that is no baseline."""
    from profiler.files.load import damage_told, read_record

    with damage_told(path, "a memory baseline"):
        if not path.exists():
            return {}
        return read_record(Peaks, path.read_bytes(), str(path), "a memory baseline", SCHEMA).peaks


def peak_of(found: "CallEstimate", spot: "Hotspots") -> Peak:
    """What the file keeps of an estimate and its hot spot: whoever owns little there is part of the rest."""
    owners, least = alive_by_owner(spot), WORTH * spot.allocated
    alive = {owner: size for owner, size in owners.items() if size >= least}
    return Peak(
        gpu=found.stack.gpu or "",
        stack=rests_on(found),
        allocated_bytes=found.most("allocated"),
        reserved_bytes=found.most("reserved"),
        alive=alive | {REST: spot.allocated - sum(alive.values())},
    )


def rests_on(found: "CallEstimate") -> tuple[str, ...]:
    """Card and versions, and what has to be said of them before any figure."""
    from profiler.data.shown import first_notes

    return (found.stack.title, *first_notes(found.notes).values())


def alive_by_owner(spot: "Hotspots") -> dict[str, int]:
    """Bytes alive at the peak of the first call, added up: weights by component or child, inputs, the rest by its maker."""
    from profiler.diagnosis.lives import made_in

    sums = Counter[str]()
    for item in spot.alive:
        maker = made_in([item]) + (", borrowed" if item.term == "workspace" else "")
        part = f"weights of {item.module.split('.')[0] or 'the module itself'}"
        sums[{"weights": part, "inputs": "inputs"}.get(item.term, maker)] += item.bytes
    return dict(sums)


Level = Literal["allocated", "reserved"]
Spot = Callable[[], "Hotspots"]
Properties = list[tuple[str, object]]


class Baseline:
    """The peaks in `path`, and the growth beyond them that is let pass (`tolerance`, 0.01 is 1 %).

    With `update` nothing is compared. Raises UserError where the file is no baseline, or cannot be written.
    """

    def __init__(self, path: Path, tolerance: float, *, update: bool) -> None:
        from profiler.files.write import check_output

        self.path, self.tolerance, self.update = path, tolerance, update
        self.peaks = read_peaks(path)
        if update and not path.parent.is_dir():  # as where it is mistyped; `check_output` lets folders be made
            raise UserError(f"{path}: there is no folder {path.parent}; make it, or name another place")
        if update:
            check_output(path, "file")

    def judge(self, key: str, found: "CallEstimate", level: Level, spot: Spot, properties: Properties) -> list[str]:
        """How the peak of test `key` grew beyond the known one, or why none is known, in lines; none where it did not.

        What is to be written, and that a peak shrank, goes into `properties` of the test's report. `spot` makes the hot
        spot, where that is wanted.
        """
        if self.update:
            properties.append((PEAK, json.dumps({key: asdict(peak_of(found, spot()))})))
            return []
        if (known := self.peaks.get(key)) is None:
            told = f"{key} is not in the baseline {self.path}; the same pytest with --memory-update"
            return [f"peak memory: {told} adds it once the test passes"]
        if known.gpu != found.stack.gpu:
            told = f"the baseline of {key} is for {known.gpu}, not {found.stack.gpu}; --memory-update"
            return [f"peak memory: {told} replaces it once the test passes"]
        before, after = getattr(known, f"{level}_bytes"), found.most(level)
        change = after / before - 1 if before else float(after > 0)
        sizes = f"{format_bytes(before)} -> {format_bytes(after)} {level}"
        if change < -self.tolerance:
            text = f"{key}: shrank by {format_bytes(before - after)} ({format_percent(change)}): {sizes}"
            properties.append((SHRANK, text))
        if change <= self.tolerance:
            return []
        share = f"{format_percent(change)}, {self.tolerance * 100:g} % allowed"
        grown = f"peak memory: grew by {format_bytes(after - before)} ({share}): {sizes}"
        return [grown, *_changes(known, found, spot()), "--memory-update makes it the baseline"]


def _changes(known: Peak, found: "CallEstimate", spot: "Hotspots") -> list[str]:
    """Whose bytes grew or shrank most at the peak of the first call, and what else changed since; a line each."""
    now, before = alive_by_owner(spot), {owner: size for owner, size in known.alive.items() if owner != REST}
    new = {owner: size for owner, size in now.items() if owner not in before and size >= WORTH * spot.allocated}
    changes = {owner: now.get(owner, 0) - size for owner, size in before.items()} | new
    changes[REST] = spot.allocated - sum(known.alive.values()) - sum(changes.values())
    largest = sorted((change for change in changes.items() if change[1]), key=lambda change: -abs(change[1]))
    lines = [f"  {'+' * (size > 0)}{format_bytes(size)}  {owner}" for owner, size in largest[:SHOWN]]
    stack = rests_on(found)
    lines += [f"  the baseline rests on: {line}" for line in known.stack if line not in stack]
    return lines + [f"  this estimate rests on: {line}" for line in stack if line not in known.stack]


class Keeper:
    """Hears the reports of all tests, in the one process that writes: keeps what passed, and says what changed."""

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline
        self.found: dict[str, Any] = {}
        self.said: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test that passed has to say."""
        if report.when == "call" and report.passed:
            for name, value in report.user_properties:
                if name == PEAK:
                    self.found |= json.loads(str(value))
                elif name == SHRANK:
                    self.said.append(str(value))

    def pytest_sessionfinish(self) -> None:
        """Put the new peaks among those that are in the file by now."""
        from profiler.files.write import write_atomically

        if not self.found:
            return
        path = self.baseline.path
        known = {key: asdict(peak) for key, peak in read_peaks(path).items()}
        data = {"schema": SCHEMA, "peaks": known | self.found}
        try:
            write_atomically(path, json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        except OSError as error:
            pytest.exit(f"{path}: cannot be written: {error.strerror}", returncode=pytest.ExitCode.INTERNAL_ERROR)
        kept = len(known.keys() - self.found.keys())
        others = f", {kept} kept of tests that did not run or did not pass" if kept else ""
        self.said.append(f"{path}: {len(self.found)} written{others}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what shrank and what was written."""
        if self.said:
            terminalreporter.section("peak memory")
            for line in self.said:
                terminalreporter.write_line(line)
