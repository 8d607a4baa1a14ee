"""What a report says, in every form of it: worked out once, then rendered as HTML, Markdown or JSON."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiler.comparison.case import Comparison
from profiler.data.records import Record
from profiler.report import conditions, growth, peers, words


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a report prints about its run and no record holds: what was asked, when, and from where.

    All but `title` may be left out; the page then says "not recorded".

    `created` is the report's date as text (ISO 8601); `version` latentmeter's own, `estimator` that of the run.
    """

    title: str
    command: str | None = None
    created: str | None = None
    version: str | None = None
    config_name: str | None = None
    directory: str | None = None
    estimator: str | None = None

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Label and text of each condition, in the order of reading."""
        facts = [
            ("Command", self.command),
            ("Config", self.config_name),
            ("Results", self.directory),
            ("Report written", self.created),
            ("latentmeter", self.version),
        ]
        return [(label, text or "not recorded") for label, text in facts]


def collect_contents(
    comparisons: Sequence[Comparison], about: RunInfo, others: peers.Peers | None = None
) -> dict[str, Any]:
    """The parts over `comparisons`, in the order of reading, by the names that the templates know them by.

    `headlines` stand below the answer; `explained` are the cases with events; `others` the figures of others' formulas.
    """
    records = [comparison.record for comparison in comparisons]
    uses = conditions.stack_uses(comparisons)
    dated, later = words.write_age(comparisons, about.estimator, about.created)
    peer_rows = peers.peer_rows(comparisons, others or {})
    return {
        "about": about,
        "comparisons": comparisons,
        "others": others or {},
        "answer": words.write_answer(comparisons),
        "headlines": words.write_largest_peaks(comparisons) + words.write_explained(comparisons) + dated,
        "measured": words.measured_word(comparisons),
        "cautions": later + words.write_cautions(comparisons),
        "kinds": conditions.kinds(comparisons),
        "period": conditions.period(comparisons),
        "uses": uses,
        "stack_rows": conditions.stack_rows(uses),
        "peer_rows": peer_rows,
        "peer_summary": peers.summarize_peers(peer_rows),
        "growth": growth.draw_growth(comparisons),
        "explained": [record for record in records if record.explanation],
        "failed": group_failures(records),
    }


def group_failures(records: Sequence[Record]) -> list[tuple[str, list[int]]]:
    """Why cases failed or were skipped, each reason once with the positions of its cases, in the order of their first."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, record in enumerate(records):
        if record.status == "ok":
            continue
        failure = record.failure
        notes = "; ".join(f"{field}: {text}" for field, text in record.notes.items())
        reason = failure.message if failure else notes or "no detail was recorded"
        apart = (failure.phase, failure.signal or "") if failure else ()
        found[reason, record.status, *apart].append(at)
    return [(reason, cases) for (reason, *_), cases in found.items()]
