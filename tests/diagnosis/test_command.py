"""`latentmeter hotspots`."""

import json
import re
from pathlib import Path
from typing import Any

TINY = ("hotspots", "tests/models/tiny-video.yaml", "--height", 64, "--width", 64, "--gpu", "h200")


def test_findings_come_first(latentmeter: Any) -> None:
    answer = latentmeter(*TINY)
    assert answer.code == 0
    lines = answer.out.splitlines()
    first, timeline = (next(n for n, line in enumerate(lines) if text in line) for text in ("1. ", "bytes alive above"))
    assert first < timeline
    assert any(line.strip().startswith("-> --channels-last: 8.3 MiB allocated instead of 8.8 MiB") for line in lines)
    assert "no remedy: --framewise: framewise: cannot be applied" in answer.out


def test_the_first_lines_have_the_peak_and_what_lowers_it_most(latentmeter: Any) -> None:
    lines = latentmeter(*TINY).out.splitlines()
    assert (
        lines[1]
        == "8.8 MiB allocated at the peak, in decoder.up_blocks.3.resnets.1.conv2 (convolution); fits on NVIDIA H200"
    )
    assert lines[2].startswith("--dtype bf16: 4.4 MiB allocated instead of 8.8 MiB (-50%); numbers keep 2 to 3 digits")
    assert lines[3].startswith("estimated for NVIDIA H200, ")
    assert lines[4].startswith("next highest: ") and "decoder.up_blocks.3" not in lines[4]


def test_what_is_alike_is_one_row_and_a_buffer_has_no_shape(latentmeter: Any) -> None:
    out = latentmeter(*TINY, "--no-remedies").out
    rows = [line.split("  ")[0] for line in out[out.index("alive at the peak  ") :].splitlines()[1:]]
    assert any(" x " in size for size in rows)
    assert "buffer" in out and " byte" not in out
    assert re.search(r"and \d+ alike +convolution", out[out.index("most borrowed by one op") :])


def test_json_is_one_document(latentmeter: Any) -> None:
    data = json.loads(latentmeter(*TINY, "--json", "--no-remedies").out)
    assert data["allocated"] == sum(data["by_module"].values()) == sum(item["bytes"] for item in data["alive"])
    assert data["findings"][0]["rule"] == "fp32-stage"
    assert data["modules"][0]["path"] == "" and data["remedies"] == []


def test_files_are_written_and_not_overwritten(latentmeter: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    command = (*TINY, "--no-remedies", "--export-dir", tmp_path / "all", "--out", page)
    assert latentmeter(*command).code == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "events.csv", "snapshot.pickle", "stacks.txt", "trace.json",
    ]  # fmt: skip
    assert "WanUpBlock" in page.read_text() and "http" not in page.read_text().split("</style>")[1]
    again = latentmeter(*command)
    assert again.code == 2 and "--force" in again.err
    assert latentmeter(*command, "--force").code == 0


def test_an_export_of_no_kind(latentmeter: Any) -> None:
    answer = latentmeter(*TINY, "--export", "flame=x")
    assert answer.code == 2 and "snapshot, chrome, csv, stacks" in answer.err


def test_a_generation_is_estimated_alone(latentmeter: Any) -> None:
    answer = latentmeter("hotspots", "sdxl", "--stage", "generate", "--device", "cpu")
    assert answer.code == 2 and "a whole generation is estimated" in answer.err
    answer = latentmeter(*TINY, "--offload", "model")
    assert answer.code == 2 and "--stage generate has them by phase" in answer.err
