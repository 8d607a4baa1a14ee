"""The sentence at the top: made from data, every case counted once, the kind of the numbers said plainly."""

from dataclasses import replace

import pytest

from profiler.comparison.case import compare_all
from profiler.report.words import write_answer, write_cautions, write_largest_peaks
from tests.report import records_factory as make


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([], "Nothing was run, so there is nothing to answer from."),
        ([make.exact()], "1 of 1 workload within 1 % on a GPU, exact to the byte."),
        (
            [make.exact(), make.over(), make.within()],
            "2 of 3 workloads within 1 % on a GPU, worst +1.89 %: ltx-video-2b decode.",
        ),
        (
            [make.over(), make.record(off=-900_000_000)],
            "0 of 2 workloads within 1 % on a GPU, worst -18.94 %: wan2.1-t2v-1.3b decode.",
        ),
        ([make.on_cpu()], "1 of 1 workload within 1 % on the CPU, exact to the byte."),
        ([make.estimate_only()], "1 workload estimated for NVIDIA H200, nothing measured."),
        ([make.oom(), make.crash()], "2 failed (1 oom, 1 crash)."),
        ([make.skipped(), make.elsewhere()], "1 skipped; 1 not comparable."),
    ],
)
def test_the_answer_is_one_sentence_from_the_data(records, sentence):
    assert write_answer(compare_all(records)) == sentence


def test_no_case_is_left_out_of_the_answer():
    text = write_answer(compare_all(make.sample()))
    assert text == (
        "2 of 3 workloads within 1 % on a GPU, worst +1.89 %: ltx-video-2b decode; "
        "1 of 1 workload within 1 % on the CPU, exact to the byte; "
        "2 failed (1 oom, 1 crash); 1 skipped; 1 not comparable; "
        "1 workload estimated for NVIDIA H200, nothing measured."
    )


def test_several_tolerances_are_not_called_one():
    records = [replace(make.exact(), tolerance=0.01), replace(make.over(), tolerance=0.05)]
    assert write_answer(compare_all(records)).startswith("2 of 2 workloads within 1 % to 5 % on a GPU, worst +1.89 %")


def test_an_estimate_that_does_not_fit_is_said():
    record = make.estimate_only()
    full = replace(record, estimate=replace(record.estimate, fits=False))
    assert "nothing measured, 1 of them more than fits." in write_answer(compare_all([full, record]))


def test_an_oom_that_was_foreseen_is_said():
    record, estimate = make.oom(), make.estimate_only().estimate
    foreseen, missed = (replace(record, estimate=replace(estimate, fits=fits)) for fits in (False, True))
    assert write_answer(compare_all([foreseen, missed])) == "2 failed (2 oom), 1 estimated not to fit."


def test_cpu_numbers_are_called_cpu_numbers():
    lines = write_cautions(compare_all([make.on_cpu(), make.estimate_only()]))
    assert lines[0] == "These are CPU numbers. No GPU was measured."
    assert "added to both sides" in lines[1]


def test_a_gpu_beside_the_cpu_keeps_them_apart():
    assert write_cautions(compare_all([make.on_cpu(), make.exact()]))[0].startswith(
        "Rows measured on the CPU are CPU numbers"
    )


def test_estimates_alone_are_called_estimates():
    assert write_cautions(compare_all([make.estimate_only()])) == [
        "Every number here is estimated. Nothing was measured."
    ]


def test_dry_numbers_are_called_dry():
    record = make.exact()
    dry = replace(record, measurement=replace(record.measurement, device_kind="dry"))
    assert "No GPU was measured there" in write_cautions(compare_all([dry]))[0]


def test_gpu_numbers_need_no_caution():
    assert write_cautions(compare_all([make.exact()])) == []


def test_the_largest_peak_is_named_by_kind_of_number():
    assert write_largest_peaks(compare_all([make.on_cpu(), make.estimate_only()])) == [
        "Largest peak measured on the CPU: 3.342 GiB allocated by wan2.1-t2v-1.3b decode, 5\u00d7256\u00d7256",
        "Largest peak estimated, nothing measured: 31.866 GiB allocated by wan2.1-t2v-14b denoise, 81\u00d7720\u00d71280",
    ]
