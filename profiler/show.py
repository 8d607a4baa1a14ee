"""Prints answers for a person: tables where standard output is a terminal, the same text without colour elsewhere."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from profiler.compare import Comparison, compare, compare_all
from profiler.records import TERMS, Estimate, Measurement, Memory, Record
from profiler.stack import Stack
from profiler.units import format_bytes, format_percent

if TYPE_CHECKING:
    import pandas as pd

    from profiler.coverage import Trial
    from profiler.difference import CaseDifference, RunDifference
    from profiler.doctor import Finding
    from profiler.models.spec import Component, ModelSpec
    from profiler.run.plan import Sweep
    from profiler.run.reasons import Reason
    from profiler.run.sweep import Progress

PLAIN_WIDTH = 160


def console() -> Console:
    """Standard output, markup off: model names and messages are other people's text."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(markup=False, highlight=False, width=width, soft_wrap=True)


def show_latent(found: Mapping[str, Any]) -> None:
    """The closed form, a line a value."""
    shape = " x ".join(map(str, found["latent_shape"]))
    console().print(f"latent shape      {shape}  (B x C x T x H x W)")
    console().print(f"elements          {found['num_elements']:,}")
    console().print(f"memory            {found['memory_bytes']:,} B = {found['memory_mb']:.4f} MiB")
    console().print(f"tokens per video  {found['tokens_per_video']:,}")


def show_models(catalog: "Mapping[str, ModelSpec]") -> None:
    """One row a model, family by family."""
    table = _table("model", "family", "kind", "VAE", "denoiser", "default size", "latent C, s x t")
    for spec in sorted(catalog.values(), key=lambda spec: (spec.kind, spec.family or "", spec.id)):
        size = spec.default
        clip = f"{size.frames}x{size.height}x{size.width}" if size else "none"
        latent = spec.contract
        compression = (
            f"{latent.channels}, {latent.spatial_compression} x {latent.temporal_compression}" if latent else "?"
        )
        vae, denoiser = (_parameters(component) for component in (spec.vae, spec.denoiser))
        table.add_row(spec.id, spec.family or "", spec.kind, vae, denoiser, clip, compression)
    console().print(table)
    console().print("`latentmeter models ID` shows one with its sources; `latentmeter estimate ID` estimates it.")


def _parameters(component: "Component | None") -> str:
    """Parameters in millions or billions; `?` where they are not counted, `-` where the model has no such component."""
    if component is None:
        return "-"
    count = component.parameters
    return "?" if count is None else f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def show_trial(done: int, total: int, trials: "Sequence[Trial]") -> None:
    """Progress, on standard error."""
    for trial in trials:
        click.echo(f"[{done}/{total}] {trial.class_name} {trial.stage or ''} {trial.status}", err=True)


def show_coverage(trials: "Sequence[Trial]") -> None:
    """One row a stage, then the summary."""
    from profiler.coverage import summary

    table = _table("class", "stage", "result", "case", "peak allocated", "remark")
    for trial in trials:
        peak = format_bytes(trial.peak_bytes) if trial.peak_bytes is not None else "-"
        remark = trial.reason or trial.notes or ""
        table.add_row(trial.class_name, trial.stage or "-", trial.status, trial.key or "-", peak, remark)
    console().print(table)
    console().print(summary(trials))


def show_model(spec: "ModelSpec") -> None:
    """A model's file as YAML, sources included."""
    import yaml

    data = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    console().print(yaml.safe_dump(data, sort_keys=False, width=PLAIN_WIDTH).rstrip())


def show_estimate(found: Estimate) -> None:
    """Peak, terms, where it stands, what is alive."""
    out = console()
    out.print(f"{found.workload.key}")
    out.print(f"estimated for {found.stack.title}")
    levels = {"baseline": found.baseline, "peak": found.peak}
    if found.warm is not None:
        levels["later calls, peak"] = found.warm
    _levels(levels)
    if found.safe_reserved_bytes is not None:
        out.print(f"reserved, safe bound over other histories: {format_bytes(found.safe_reserved_bytes)}")
    if found.fits is not None:
        room = f"{found.stack.gpu} ({format_bytes(found.stack.device_total_bytes)})"
        out.print(f"fits on an empty {room}: {'yes' if found.fits else 'NO'}")
    out.print(f"closed-form latent: {format_bytes(found.latent.get('memory_bytes'))}")
    _breakdown(found)
    _notes(found.notes)
    out.print(f"estimated in {found.seconds:.2f} s from {found.events:,} allocator events; nothing was measured")


def show_measurement(record: Record) -> None:
    """Levels by phase, the breakdown, or why there is none."""
    out = console()
    out.print(f"{record.key}: {record.status} in {record.seconds:.1f} s")
    if record.stack is not None:
        out.print(
            f"measured on {record.stack.title}" + (" (CPU numbers, no GPU)" if record.stack.device == "cpu" else "")
        )
    if record.failure is not None:
        _failure(record)
    found = record.measurement
    if found is None:
        return
    levels = {"baseline": found.baseline, "cold call, peak": found.peak}
    for number, reading in enumerate(found.warm, start=1):
        levels[f"warm call {number}, peak"] = reading.peak
    _levels(levels)
    _breakdown(found)
    if found.borrowed:
        out.print("most borrowed while an op ran: " + "; ".join(
            f"{format_bytes(b.bytes)} in {b.module or 'the stage'} ({b.op})" for b in found.borrowed[:3]))  # fmt: skip
    for name, option in found.options.items():
        out.print(f"option {name}: {'applied' if option.applied else 'NOT applied'}: {option.detail}")
    _notes(found.notes)


def show_progress(progress: "Progress") -> None:
    """One line when a case begins and one when it ends."""
    record = progress.record
    if record is None:
        what = "estimate" if progress.case.gpu else "measure"
        console().print(f"[{progress.number}/{progress.total}] {what} {progress.case.key}")
        return
    row = compare(record)
    text = f"        {record.status}, {record.seconds:.1f} s"
    if row.allocated.estimated is not None:
        text += f", estimated {format_bytes(row.allocated.estimated)}"
    if row.allocated.measured is not None:
        text += (
            f", measured {format_bytes(row.allocated.measured)} ({format_percent(row.allocated.error)}, {row.verdict})"
        )
    console().print(text + (f": {record.failure.message}" if record.failure else ""))


def show_run(sweep: "Sweep", records: Sequence[Record], paths: Sequence[Path]) -> list[Comparison]:
    """The closing table of a run, where its report lies, and what to type next."""
    from profiler.run.plan import plan_cases

    out = console()
    comparisons = compare_all(records)
    table = _table("case", "kind", "status", "estimated", "measured", "error", "verdict")
    for row in comparisons:
        kind = row.record.measurement.device_kind if row.record.measurement else "estimated"
        table.add_row(
            row.record.key, kind, row.record.status, format_bytes(row.allocated.estimated),
            format_bytes(row.allocated.measured) if row.record.measurement else "-",
            format_percent(row.allocated.error) if row.record.measurement else "-", row.verdict,
        )  # fmt: skip
    out.print(table)
    if any(row.record.measurement and row.record.measurement.device_kind == "dry" for row in comparisons):
        out.print("Rows of kind 'dry': allocator and dispatcher real, kernels not executed; no GPU was measured.")
    if any(row.record.stack and row.record.stack.device == "cpu" for row in comparisons):
        out.print("Measured rows are CPU numbers: no GPU was used. Rows of kind 'estimated' were not measured.")
    planned = len(plan_cases(sweep))
    if len(records) < planned:
        out.print(f"{len(records)} of {planned} cases done: the same command goes on with the rest.")
    for path in paths:
        out.print(str(path))
    out.print(f"Read {paths[0]}; `latentmeter report {paths[0].parent}` writes it again.")
    return comparisons


def show_difference(found: "RunDifference", failures: "Sequence[CaseDifference]") -> None:
    """The stack's changes, a row for each case that changed, and how many did not."""
    from profiler.difference import sentence

    out = console()
    for name, (before, after) in found.stack.items():
        out.print(f"{name}: {before} -> {after}")
    table = _table("case", "kind", "change", "before", "after", "allocated", "reserved", "device")
    for case in (case for case in found.cases if case.change != "equal" or case in failures):
        sizes = [
            format_bytes(size) if size is not None else "-" for size in (case.allocated.before, case.allocated.after)
        ]
        shares = [format_percent(delta.share) if delta.bytes is not None else "-" for delta in case.deltas]
        table.add_row(case.key, case.kind, case.change, *sizes, *shares)
    if table.row_count:
        out.print(table)
    out.print(sentence(found))
    for case in failures:
        out.print(f"FAILED {case.key}: {case.reason or 'rose by more than the limit'}")


def show_reasons(found: "Sequence[Reason]") -> None:
    """A line a case; for one case alone, every cause."""
    out = console()
    for reason in found:
        text = reason.explanation.text if reason.explanation else f"not explained: {reason.missing}"
        out.print(f"{reason.record.key}: {text}")
    if len(found) > 1:
        known = [reason.explanation for reason in found if reason.explanation]
        left = sum(abs(explanation.unexplained) for explanation in known)
        out.print(f"{len(known)} of {len(found)} cases have events; {left:,} B of their differences unexplained")
        return
    for explanation in [reason.explanation for reason in found if reason.explanation]:
        table = _table("measured minus estimated", "blocks", "term", "why", "where")
        for cause in explanation.causes:
            where = f"{cause.module} {cause.op}".strip()
            table.add_row(f"{cause.bytes:+,} B", str(cause.blocks), cause.term, cause.why, where)
        table.add_row(f"{explanation.unexplained:+,} B" if explanation.unexplained else "0 B", "", "", "unexplained")
        table.add_row(f"{explanation.difference:+,} B", "", "", "difference of the allocated peaks")
        out.print(table)
        out.print(
            f"{explanation.paired:,} blocks are in both streams, {explanation.only_measured:,} only in the measured, "
            f"{explanation.only_estimated:,} only in the estimated one."
        )


def track(cases: Sequence[Any], what: str) -> Iterable[Any]:
    """`cases`, one by one, with a progress bar on standard error; where that is no terminal, a line every twenty cases."""
    out = Console(stderr=True)
    if out.is_terminal:
        from rich import progress

        yield from progress.track(cases, description=what, console=out)
        return
    for number, case in enumerate(cases):
        if number % 20 == 0:
            out.print(f"{what}: {number} of {len(cases)}")
        yield case


def show_accuracy(frame: "pd.DataFrame", about: Mapping[str, str], paths: Sequence[Path]) -> None:
    """The conditions and the summary, and where the whole table lies."""
    from profiler.report.accuracy import summary

    out = console()
    for name, text in about.items():
        out.print(f"{name}: {text}")
    out.print("\n".join(["", *summary(frame), ""]))
    for path in paths:
        out.print(str(path))
    if not paths:
        out.print("`--out FOLDER` writes the whole table: Markdown, CSV, JSON.")


def show_doctor(stack: Stack, findings: "Sequence[Finding]", ladder: Mapping[str, Any] | None) -> None:
    """One line a finding."""
    out = console()
    for finding in findings:
        out.print(f"{finding.level:8} {finding.subject}: {finding.text}")
    out.print(f"stack    {stack.fingerprint}: {stack.title}")
    for step, size in (ladder or {}).get("bytes", {}).items():
        out.print(f"outside the allocator after {step}: {format_bytes(size)}")


def _levels(levels: Mapping[str, Memory]) -> None:
    table = _table("", "allocated", "reserved", "device")
    for name, level in levels.items():
        table.add_row(
            name, *[format_bytes(n) for n in (level.allocated_bytes, level.reserved_bytes, level.device_bytes)]
        )
    console().print(table)


def _breakdown(found: Estimate | Measurement) -> None:
    out = console()
    out.print("terms at the peak: " + ", ".join(f"{name} {format_bytes(getattr(found.terms, name))}" for name in TERMS))
    if found.peak_at is not None:
        out.print(f"peak at {found.peak_at.module or 'the stage itself'}: {found.peak_at.op}")
    table = _table("alive at the peak", "shape", "dtype", "term", "made in")
    for item in found.largest:
        shape = "x".join(map(str, item.shape))
        table.add_row(format_bytes(item.bytes), shape, item.dtype, item.term, f"{item.module} {item.op}".strip())
    out.print(table)


def _failure(record: Record) -> None:
    failure = record.failure
    assert failure is not None
    console().print(Text(f"{record.status} in phase '{failure.phase}': {failure.message}", style="bold"))
    if failure.requested_bytes is not None:
        console().print(f"the allocation that failed: {format_bytes(failure.requested_bytes)}")
    if failure.log:
        console().print(failure.log)


def _notes(notes: Mapping[str, str]) -> None:
    """One line a reason, with all the figures that it is about."""
    about: dict[str, list[str]] = {}
    for name, reason in notes.items():
        about.setdefault(reason, []).append(name)
    for reason, names in about.items():
        console().print(f"note: {', '.join(names)}: {reason}")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "default", overflow="fold")
    return table
