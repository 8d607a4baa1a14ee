"""How records look at a prompt and in a notebook."""

import dataclasses

import pytest

from profiler.comparison.case import compare
from tests.report import records_factory as make


def test_an_estimate_is_one_line_with_its_kind_and_unit() -> None:
    assert repr(make.exact().estimate) == (
        "<Estimate wan2.1-t2v-1.3b/decode/81x480x832/b1/bf16, estimated for NVIDIA H200, torch 2.9.1+cu128, "
        "cuDNN 9.10.2, diffusers 0.36.0: 4.424 GiB allocated at the peak>"
    )


def test_a_failed_record_says_why() -> None:
    assert "oom: CUDA out of memory" in repr(make.oom())


def test_a_comparison_says_verdict_and_tolerance() -> None:
    assert "measured, over (tolerance 1 %)" in repr(compare(make.over()))


@pytest.mark.parametrize(
    "shown", [make.exact(), make.exact().estimate, make.exact().measurement, compare(make.exact())]
)
def test_the_table_has_a_row_a_quantity_with_its_unit(shown) -> None:  # type: ignore[no-untyped-def]
    html = shown._repr_html_()
    assert html.count("<tr>") == 11
    assert "<th>weights</th>" in html
    assert "242.2 MiB" in html


@pytest.mark.parametrize("shown", [make.hostile(), make.hostile().estimate, compare(make.hostile())])
def test_hostile_text_is_escaped(shown) -> None:  # type: ignore[no-untyped-def]
    html = shown._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


def test_a_notebook_says_whether_it_fits_where_the_peak_is_and_the_notes() -> None:
    estimate = make.exact().estimate
    assert estimate is not None
    said = estimate._repr_html_().split("<table>")[0]
    assert "<p>fits on NVIDIA H200 (139.801 GiB)</p>" in said
    assert "<p>peak at decoder.up_blocks.3.resnets.0.conv1: aten.convolution.default</p>" in said
    assert "<p>note: terms.context, peak.device_bytes: no context size known for this card</p>" in said
    full = dataclasses.replace(estimate, fits=False, first_call_fits=False)
    assert "<p>does not fit on NVIDIA H200 (139.801 GiB); the figures are a roomy card&#x27;s</p>" in full._repr_html_()


def test_a_dry_run_is_called_one() -> None:
    measurement = make.measurement(device_kind="dry")
    assert "dry run of NVIDIA H200" in repr(measurement) and "measured" not in repr(measurement)
