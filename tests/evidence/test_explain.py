"""Explanations made of a run's events, and made again by today's rules: the runs are those of `results/examples`."""

import shutil
from dataclasses import replace
from pathlib import Path

from profiler.estimation.estimator import estimate_with_events
from profiler.evidence.explain import named, reason_of
from profiler.files.store import open_run
from profiler.files.streams import packed
from profiler.models.find import find_model

DRY = Path(__file__).parents[2] / "results" / "examples" / "dry-small"
CONTEXT, LACKING = 512 << 20, 2 << 20


def test_an_explanation_made_again_is_of_the_same_full_card(tmp_path: Path) -> None:
    """What the context takes of the card is as in the estimate that the record holds."""
    store = open_run(shutil.copytree(DRY, tmp_path / "run"))
    record = named(store.records(), "sd1.5/decode/1x128x128/b1/fp16")[0]
    assert record.measurement is not None and record.measurement.peak.reserved_bytes is not None
    total = CONTEXT + record.measurement.peak.reserved_bytes - LACKING
    stack = replace(record.measurement.stack, device_total_bytes=total)
    estimate, events = estimate_with_events(record.workload, find_model("sd1.5"), stack, context_bytes=CONTEXT)
    store.event_path(record.workload, "estimated").write_bytes(packed(events))
    full = replace(record, estimate=estimate, measurement=replace(record.measurement, stack=stack))
    first, again = reason_of(store, full), reason_of(store, full, again=True)
    assert first.explanation is not None and first.explanation.reserved is not None
    assert first.explanation.reserved.difference == record.measurement.peak.reserved_bytes - 266_338_304 > 0
    assert again == first
