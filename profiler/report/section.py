"""The section of one workload as plain data, a list of blocks, which the page's script draws when it is opened.

A block is a list that begins with its kind: `["h", title]`, `["p", text]`, `["dl", rows of label and text]`,
`["table", style, caption, heads, rows]`, `["chart", caption, title, steps]`. A cell is a text, a size in bytes, or a list
of one of these, a second line and the number of a footnote. The script writes all of it as text, never as markup.
"""

from collections import Counter
from itertools import chain
from typing import Any

from profiler.comparison.case import Comparison
from profiler.data.asked import OPTIONS
from profiler.data.memory import SECOND
from profiler.data.records import AppliedOption, Estimate, Measurement, Record
from profiler.data.units import format_bytes, format_percent
from profiler.report import case, cells, peers, words
from profiler.report.cells import SIDES, Cell, Footnotes
from profiler.report.engine import format_exact, format_shape
from profiler.report.generation import phase_rows, phase_table

Block = list[Any]
ANSWERS = {True: "yes", False: "no", None: "unknown"}


def make_section(
    comparison: Comparison, common: frozenset[str], notes: Footnotes, others: Any = None
) -> list[list[Block]]:
    """Blocks of the left column, of the right one, and of the whole width. `others` are its `peers.peer_rows`."""
    record = comparison.record
    word = words.measured_word([comparison])
    wide = [
        *_phases(comparison, word),
        *_causes(record, word),
        *(case.readings(source, notes) if (source := record.measurement or record.failure) else ()),
        *_others(others or {}, word),
        ["h", "How the numbers came about"],
        ["dl", _origins(comparison, common, notes)],
    ]
    return [_waterfall(comparison, word, notes), _at_the_peak(comparison, word), wide]


def summary_line(comparison: Comparison) -> list[str]:
    """Name, conditions, peak or status, verdict and error: what stands for the section while it is closed."""
    record, work, verdict = comparison.record, comparison.record.workload, comparison.verdict
    conditions = [words.format_clip(work), f"batch {work.batch}", work.dtype, work.options_key, words.card_of(record)]
    kind = words.measured_word([comparison]) if record.measurement else record.kind
    peak = f"{format_bytes(words.peak_of(comparison))} allocated, {kind}" if record.status == "ok" else record.status
    error = f" {format_percent(comparison.allocated.error)}" if comparison.allocated.difference else ""
    judged = [verdict, error] if words.is_judged(comparison) else ["", ""]
    return [words.name_of(comparison), ", ".join(filter(None, conditions)), peak, *judged]


def _waterfall(comparison: Comparison, word: str, notes: Footnotes) -> list[Block]:
    record, steps = comparison.record, cells.waterfall_steps(comparison)
    if not any(size for step in steps for size in (step.pair.estimated, step.pair.measured)):
        return [["p", "No chart: this case has no numbers."]]
    side = {
        (True, True): f"Outlined: estimated; filled: {word}. ",
        (True, False): "All estimated, nothing measured. ",
    }.get((record.estimate is not None, record.measurement is not None), "")
    if phases := phase_rows(comparison):
        caption = f"{side}Allocated at the peak of each phase, in order of time; shaded: the second call."
        bars = [(call, [cell.content for cell in row[:3]]) for call, row in phases]
        phased = [[name, "total" if call == SECOND else "term", *sizes] for call, (name, *sizes) in bars]
        return [["chart", caption, words.name_of(comparison), phased, word]]
    caption = (
        f"{side}Each term starts where the one above ends. The latent is part of the inputs or outputs and not added."
    )
    rows = [
        [step.name, step.role, *(cells.step_cell(comparison, step, name, notes).data for name in SIDES)]
        for step in steps
    ]
    left = cells.unexplained(steps)
    return [
        ["chart", caption, words.name_of(comparison), rows, word],
        *(
            ["p", f"The five terms of the {name} peak leave {format_exact(rest)} of allocated unexplained."]
            for name, rest in (("estimated", left.estimated), (word, left.measured))
            if rest
        ),
    ]


def _at_the_peak(comparison: Comparison, word: str) -> list[Block]:
    record = comparison.record
    estimate, measurement = record.estimate, record.measurement
    sides = {name: side for name, side in ((word.capitalize(), measurement), ("Estimated", estimate)) if side}
    only = " (tensors only)" if words.added_workspace(comparison) else ""
    facts = [[name, _peak(side) + (only if side is estimate else "")] for name, side in sides.items()]
    if len({text for _, text in facts}) < len(facts):  # told once where they agree
        facts = [[f"{word.capitalize()} and estimated", facts[0][1]]]
    if measurement and measurement.attribution_peak_bytes not in (None, measurement.peak.allocated_bytes):
        peak = format_exact(measurement.attribution_peak_bytes)
        facts.append(["Watched call", f"The call that was watched op by op, for the names here, peaked at {peak}"])
    shapes = {
        word: measurement.output_shapes if measurement else (),
        "estimated": estimate.output_shapes if estimate else (),
    }
    if shapes["estimated"] == shapes[word]:
        del shapes["estimated"]
    facts += [[f"Output, {name}", ", ".join(map(format_shape, found))] for name, found in shapes.items() if found]
    blocks: list[Block] = [["h", "At the peak"], ["dl", facts]] if facts else []
    return blocks + _tensors(record, word) + _borrowed(measurement, word) + _options(record, word)


def _peak(side: Estimate | Measurement) -> str:
    at, low, high = side.peak_at, side.baseline.allocated_bytes, side.peak.allocated_bytes
    place = (
        f"{at.op} in {at.module or 'the stage itself'}"
        if at
        else f"place unknown: {cells.find_note(['peak_at'], side.notes)}"
    )
    if low is None or high is None:
        return place
    before, top, more = map(format_bytes, (low, high, high - low))
    return f"{place}\n{before} resident before the call, {top} at the peak: {more} more"


def _tensors(record: Record, word: str) -> list[Block]:
    """The largest tensors, of the measured side where it has any; layers often hold several of one size and maker."""
    side = next((side for side in (record.measurement, record.estimate) if side and side.largest), None)
    if side is None:
        return []
    caption = f"Largest tensors alive at the {word if side is record.measurement else 'estimated'} peak"
    if record.estimate and record.measurement is side and record.estimate.largest:
        ours, known = (Counter(tensor.bytes for tensor in found) for found in (record.estimate.largest, side.largest))
        caption += f"; sizes also in the estimate\u2019s list: {(ours & known).total()} of {len(side.largest)}"
    rows = [
        [
            f"{count} \u00d7 {format_bytes(tensor.bytes)}" if count > 1 else tensor.bytes,
            *(tensor.form[0].replace("x", "\u00d7"), tensor.form[1], tensor.term, _made_by(tensor.module, tensor.op)),
        ]
        for tensor, count in Counter(side.largest).items()
    ]
    return [["table", "size", caption, ["Size", "Shape", "Dtype", "Term", "Made by"], rows]]


def _borrowed(measurement: Measurement | None, word: str) -> list[Block]:
    if not measurement or not measurement.borrowed:
        return []
    some = f" (the first {case.BORROWED})" if len(measurement.borrowed) > case.BORROWED else ""
    rows = [[op.bytes, _made_by(op.module, op.op)] for op in measurement.borrowed[: case.BORROWED]]
    return [["table", "size", f"Ops that borrowed most while they ran, {word}{some}", ["Size", "Op"], rows]]


def _options(record: Record, word: str) -> list[Block]:
    """The memory options that were asked for or that a side reports on, and what it reports."""
    sides = {name: side.options for name, side in (("estimate", record.estimate), (word, record.measurement)) if side}
    asked = [name for name in OPTIONS if getattr(record.workload.options, name)]
    rows = [
        [name, ANSWERS[name in asked], *(_applied(options.get(name)) for options in sides.values())]
        for name in dict.fromkeys(chain(asked, *sides.values()))
    ]
    return [["table", "", "Memory options", ["Option", "Asked", *map(str.capitalize, sides)], rows]] if rows else []


def _applied(option: AppliedOption | None) -> Any:
    if option is None:
        return "not reported"
    return Cell("applied" if option.applied else "not applied", detail=option.detail).data


def _causes(record: Record, word: str) -> list[Block]:
    explanation = record.explanation
    blocks: list[Block] = []
    for level, found in (explanation.levels if explanation else {}).items():
        if not found.causes:
            continue
        caption = (
            f"{word.capitalize()} minus estimated {level} bytes, event by event: {found.paired:,} blocks are in both "
            f"streams, {found.only_measured:,} only in the {word}, {found.only_estimated:,} only in the estimated one."
        )
        rows = [[f"{c.bytes:+,}", str(c.blocks), c.term, c.why, _made_by(c.module, c.op)] for c in found.causes]
        rows.append([f"{found.unexplained:+,}" if found.unexplained else "0", "", "", "unexplained", ""])
        heads = ["Bytes", "Blocks", "Term", "Why", "Where"]
        blocks += [["h", f"Why the {level} peaks differ"], ["table", "size", caption, heads, rows]]
    return blocks


def _phases(comparison: Comparison, word: str) -> list[Block]:
    found = phase_table(comparison, word)
    caption = (
        "The peak of each phase, below its name the weights that the estimate has on the card; 2 is the second call"
    )
    table = ["table", "num", caption, found.heads, [[cell.data for cell in row] for row in found.rows]]
    return [["h", "Phase by phase"], table] if found.rows else []


def _others(rows: Any, word: str) -> list[Block]:
    table = [
        [name, peers.HEADINGS[quantity], pair.estimated, format_percent(pair.error)]
        for (quantity, name), pair in rows.items()
        if pair.estimated is not None and pair.measured is not None
    ]
    heads = ["Formula of", "For", "Says", f"Beside the {word} figure"]
    return [["h", "Beside others\u2019 formulas"], ["table", "num", "", heads, table]] if table else []


def _origins(comparison: Comparison, common: frozenset[str], notes: Footnotes) -> list[list[Any]]:
    """Label and text of each condition of the case that there is."""
    record, estimate, measurement = comparison.record, comparison.record.estimate, comparison.record.measurement
    skipped = record.status == "skipped"  # such a case has its whole reason without a log
    rows: list[list[Any]] = [
        ["Key", record.key],
        ["Verdict", _with_reason(comparison.verdict, comparison.reason)],
        ["Log", None if skipped else record.failure and record.failure.log],
        ["Unexplained", record.explanation and f"{format_exact(record.explanation.unexplained)}, event by event"],
    ]
    if measurement:
        role = f"{measurement.role[0].upper()}{measurement.role[1:]}"
        rows.append([role, f"{measurement.stack.title} ({measurement.stack.fingerprint})"])
        pinned = estimate.host.pinned if estimate and estimate.host else None
        if measurement.pinned_bytes is not None:
            sizes = f"{format_exact(measurement.pinned_bytes)} {measurement.kind}, {format_exact(pinned)} estimated"
            rows.append(["Pinned on the host", sizes])
    if estimate:
        same = measurement is not None and measurement.stack == estimate.stack
        stack = "the same stack" if same else f"{estimate.stack.title} ({estimate.stack.fingerprint})"
        work = f"in {estimate.seconds:.2f} s from {estimate.events:,} allocations and frees"
        routes = ", ".join(f"{route} \u00d7 {count}" for route, count in estimate.routes.items())
        rows += [["Estimated for", f"{stack}, {work}"], ["Routes", routes]]
        if estimate.stack.device == "cuda":
            fits = _with_reason(estimate.verdict or ANSWERS[estimate.fits], estimate.notes.get("fits"))
            rows.append(["Fits the card", fits])
        if estimate.roomy and estimate.roomy != estimate.peak:
            level = estimate.roomy
            sizes = f"{format_bytes(level.reserved_bytes)} reserved, {format_bytes(level.allocated_bytes)} allocated"
            rows.append(["On a roomy card", f"{sizes}, with room for everything"])
    rows.append(["NVML, sampled", measurement and "; ".join(case.nvml_facts(measurement))])
    for (side, text), fields in case.notes_of(record).items():
        names = f"({', '.join(fields)})"
        shown = [names, "", notes.cell(None, text).note] if text in common else f"{text} {names}"
        rows.append([f"Note, {side}", shown])
    return [row for row in rows if row[1]]


def _with_reason(answer: str, reason: str | None) -> str:
    return f"{answer}: {reason}" if reason else answer


def _made_by(module: str, op: str) -> Any:
    """The module, and the op below it."""
    return [module, op, None] if module and op else module or op
