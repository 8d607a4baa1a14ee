"""A lab machine, rehearsed: a bundle, a Python with torch but without what the bundle brings, no network, no GPU either."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.dry.test_dry_cuda import ROOT, answer, command

BROUGHT = ("diffusers", "pydantic", "annotated_types", "typing_inspection", "importlib_metadata", "cudnn")
NO_NETWORK = ("unshare", "--map-root-user", "--net")

pytestmark = pytest.mark.dry


def lab_python(folder: Path) -> tuple[Path, str]:
    """A Python in `folder` with dry CUDA's packages except those in BROUGHT, and its version."""
    asked = (
        "import sys, sysconfig\nanswer = [sys._base_executable, sysconfig.get_path('purelib'), *sys.version_info[:2]]"
    )
    base, packages, major, minor = answer(asked)
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
    (own,) = folder.glob("lib/python*/site-packages")
    for entry in Path(packages).iterdir():
        if not entry.name.startswith(BROUGHT):
            (own / entry.name).symlink_to(entry)
    return folder / "bin" / "python", f"{major}.{minor}"


def test_a_lab_machine_gives_its_first_record_soon(tmp_path: Path) -> None:
    if subprocess.run([*NO_NETWORK, "true"]).returncode:
        pytest.skip("this machine does not let a user take the network away (unshare)")
    python, version = lab_python(tmp_path / "python")
    bundle, pack, home = tmp_path / "lab", tmp_path / "back", tmp_path / "home"
    subprocess.run([ROOT / "scripts" / "lab_bundle", bundle, "--python", version], check=True)

    started = time.monotonic()
    there = ("env", f"LATENTMETER_PYTHON={python}", "PYTHONPATH=", *NO_NETWORK, bundle / "scripts" / "gpu_validation")
    done = subprocess.run(command(*there, "--budget-minutes", "1", "--pack", pack), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - started < 90
    records = [json.loads(line) for line in (pack / "records.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["ok"] * len(records) != []
    assert len([*pack.iterdir()]) <= 8

    home.mkdir()
    subprocess.run(f"cat {pack}/run.tar.gz.* | tar -xz -C {home}", shell=True, check=True)
    (run,) = home.glob("dry-h200-torch*-diffusers*")
    assert (run / "records.jsonl").read_bytes() == (pack / "records.jsonl").read_bytes()
    assert len([*run.glob("events/*.json.gz")]) == 2 * len(records)
