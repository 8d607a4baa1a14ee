"""The sweep of ops in dry CUDA: what borrows has a rule, and a rule says what the kernel does."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = Path(__file__).parent / "op_calls.jsonl.gz"  # written by `scripts/op_sweep --fewest`
BORROWS = ["aten.randperm.default", [100_000], {"device": {":device": "cuda"}}]  # no model of the catalog calls it

pytestmark = pytest.mark.dry


def sweep(calls: Path, gpu: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, ROOT / "scripts" / "op_sweep", "--calls", calls, "--gpu", gpu]
    return subprocess.run(words, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize("gpu", ["t4", "h200"])
def test_ops_of_the_catalog_borrow_what_the_trace_says(gpu: str) -> None:
    done = sweep(CALLS, gpu)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_borrows_without_a_rule_is_named(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps({"workload": "one op", "calls": [BORROWS]}).encode()))
    done = sweep(file, "h200")
    assert done.returncode == 1, done.stderr
    assert "1 borrow without one, 0 borrow otherwise" in done.stdout
    assert "aten.randperm.default: no rule, 1 of 1 calls" in done.stdout
