"""`latentmeter hotspots`."""

import json
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
