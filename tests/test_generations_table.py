"""The table of whole generations: `scripts/generations`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from profiler.data.events import Block, Stream
from profiler.data.stack import Stack
from profiler.data.workload import Placement
from tests.scripts import load_script

SCRIPT = load_script("generations")
STACK = Stack(device="cuda", torch="2.13.0", capability=(8, 9), device_total_bytes=1 << 40)
MIB = 1 << 20


def record(placement: str = "model", **estimated: Any) -> dict[str, Any]:
    levels: dict[str, Any] = {"allocated": [0, 1000, 1000], "reserved": [0, 2000, 2000], "pinned": 8}
    case = {"pipeline": "sdxl", "placement": placement, "card": "t4"}
    return case | {"kind": "dry", "measured": levels, "estimated": levels | estimated}


def test_a_cell_says_what_the_estimate_is_above_the_dry_run_and_nothing_where_it_is_equal() -> None:
    cells = SCRIPT.row(record(allocated=[0, 1004, 1000]))
    assert cells == ["sdxl", "model", "t4", "0", "0", "1,000 +4 (+0.40%)", "2,000", "1,000", "2,000", "8", ""]


@pytest.mark.parametrize(
    ("placement", "estimated", "holds"),
    [
        ("model", {}, True),
        ("model", {"allocated": [0, 1004, 1000]}, False),
        ("sequential", {"allocated": [0, 1004, 1000]}, True),
        ("sequential", {"allocated": [0, 1006, 1000]}, False),
        ("model", {"reserved": [0, 2000, 2040]}, True),
        ("model", {"reserved": [0, 2000, 2041]}, False),
        ("group-leaf+stream", {"pinned": 9}, False),
    ],
)
def test_what_the_table_allows(placement: str, estimated: dict[str, Any], holds: bool) -> None:
    assert SCRIPT.holds(record(placement, **estimated)) is holds


def test_a_case_says_its_placement_and_its_lora(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SCRIPT.placed("group-leaf+stream+lora16") == (Placement(offload="group-leaf", stream=True), 16)
    assert SCRIPT.placed("group-leaf+stream+low-cpu-mem")[0].low_cpu_mem
    monkeypatch.setattr("sys.argv", ["generations", "sdxl/modle"])
    with pytest.raises(SystemExit, match="2"):
        SCRIPT.main()
    assert "no placement: 'modle'; there are none, model," in capsys.readouterr().err


def test_a_difference_is_told_by_the_op_that_makes_it() -> None:
    ops = [("unet", "aten.mm.default"), ("vae", "aten.convolution.default")]
    blocks = [Block(n, (n + 1) * MIB, n, (), "fp16", "activations", "cold", n) for n in range(2)]
    true = {"stream": [MIB, 3 * MIB, 2 * MIB]}
    assert SCRIPT.causes(true, Stream(blocks, [0, 1], ops), STACK) == [
        "+3.0 MiB of activations only measured in unet (aten.mm.default)"
    ]


def test_what_is_there_is_left_alone(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def case(name: str, *_: Any) -> dict[str, Any]:
        ran.append(name)
        return {key: record()[key] for key in ("measured", "estimated")}

    monkeypatch.setattr(SCRIPT, "case", case)
    for asked in (["sdxl"], ["sdxl", "sd1.5"], ["sdxl", "--force"]):
        monkeypatch.setattr("sys.argv", ["generations", *asked, "--placement", "model", "--out", str(tmp_path)])
        with pytest.raises(SystemExit, match="False"):
            SCRIPT.main()
    assert ran == ["sdxl", "sd1.5", "sdxl"]
    table = (tmp_path / "generations.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table if line.startswith("| s")] == ["| sdxl", "| sd1.5"]


def test_the_small_pipelines_are_made_where_pytest_is_not_installed() -> None:
    """Dry CUDA's environment, which runs them, has what the project needs and no more."""
    code = "import sys; sys.modules['pytest'] = None; import tests.pipelines"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
