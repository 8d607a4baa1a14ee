"""The folder for a lab machine: made from a folder of wheels, without a network; and what comes back from there."""

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
HERE = "{}.{}".format(*sys.version_info)


def make_wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any", needs: str = "") -> None:
    """A wheel of one module that holds its version."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"{module}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{module}-{version}-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for this Python, of packages that hold nothing; `quax` is one that no environment has."""
    target = tmp_path_factory.mktemp("bundle") / "lab"
    done = run_bundle(target, target.parent, "--python", HERE, "--add", "quax")
    assert done.returncode == 0, done.stderr
    assert f"{target}: " in done.stdout
    assert "scripts/gpu_validation" in done.stdout
    return target


def run_bundle(target: Path, wheels: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """scripts/lab_bundle, where pip finds a folder of wheels and no index."""
    compiled = f"cp{HERE.replace('.', '')}-" * 2 + "manylinux_2_17_x86_64"
    make_wheel(wheels, "diffusers", "0.42.1")
    make_wheel(wheels, "diffusers", "0.99.0")  # newer than constraints.txt pins
    make_wheel(
        wheels, "pydantic", "2.14.4", needs="Requires-Dist: pydantic-core==2.50.5\nRequires-Dist: typing-extensions\n"
    )
    make_wheel(wheels, "pydantic-core", "2.50.5", compiled)
    make_wheel(wheels, "pydantic-core", "2.51.0", compiled)
    make_wheel(wheels, "typing-extensions", "4.16.0")
    make_wheel(wheels, "nvidia-cudnn-frontend", "1.32.0", compiled)
    make_wheel(wheels, "ftfy", "6.3.1")
    make_wheel(wheels, "wcwidth", "0.9.4")
    make_wheel(wheels, "quax", "1.0", needs="Requires-Dist: torch\n")
    environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, SCRIPTS / "lab_bundle", target, *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_bundle_has_wheels_that_fit_each_other_and_the_projects_files(bundle: Path) -> None:
    names = {path.name.partition("-cp")[0].removesuffix("-py3-none-any.whl") for path in bundle.rglob("*.whl")}
    assert names == {
        "diffusers-0.42.1",
        "ftfy-6.3.1",
        "wcwidth-0.9.4",
        "pydantic-2.14.4",
        "pydantic_core-2.50.5",
        "nvidia_cudnn_frontend-1.32.0",
        "quax-1.0",
    }
    for name in (
        "profiler/__init__.py",
        "configs/sweeps/gpu-validation.yaml",
        "scripts/gpu_validation",
        "pyproject.toml",
    ):
        assert (bundle / name).read_bytes() == (ROOT / name).read_bytes()
    assert not list(bundle.rglob("__pycache__"))


def test_a_bundle_replaces_only_with_force_and_only_its_own_parts(bundle: Path, tmp_path: Path) -> None:
    kept = bundle / "results" / "mine"
    kept.mkdir(parents=True, exist_ok=True)
    stale = bundle / "profiler" / "stale.py"
    stale.touch()

    refused = run_bundle(bundle, tmp_path)
    assert refused.returncode == 1
    assert "holds a bundle" in refused.stderr and "--force" in refused.stderr
    assert stale.exists()

    assert run_bundle(bundle, tmp_path, "--force", "--python", HERE, "--add", "quax").returncode == 0
    assert kept.exists() and not stale.exists()


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    refused = run_bundle(tmp_path, tmp_path, "--force")
    assert refused.returncode == 1
    assert "is no bundle" in refused.stderr
    assert (tmp_path / "scripts").exists()


def test_a_bundle_that_cannot_be_complete_is_not_made(tmp_path: Path) -> None:
    done = run_bundle(tmp_path / "lab", tmp_path, "--python", HERE, "--add", "no-such-thing")
    assert done.returncode == 1
    assert "no wheel of no-such-thing" in done.stderr
    assert [path for path in tmp_path.iterdir() if path.suffix != ".whl"] == []


def test_what_is_lacking_comes_from_the_bundle_and_what_is_there_stays(bundle: Path) -> None:
    done = subprocess.run([sys.executable, bundle / "scripts" / "bundled.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folders = [Path(path) for path in done.stdout.strip().split(":")]
    assert bundle / "site" / f"quax-{HERE}" in folders
    assert not [folder for folder in folders if folder.name.startswith(("diffusers", "pydantic"))]
    code = "import quax, pydantic; print(quax.VERSION, hasattr(pydantic, 'BaseModel'))"
    environment = os.environ | {"PYTHONPATH": done.stdout.strip()}
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert seen.stdout == "1.0 True\n", seen.stderr


@pytest.mark.parametrize(
    ("found", "lowest", "fits"),
    [("2.11.0+cu130", "2.6", True), ("0.9", "0.35", False), ("1.10.0rc1", "1.9", True), ("2.8", "2.8", True)],
)
def test_a_package_that_is_too_old_is_lacking(found: str, lowest: str, fits: bool, monkeypatch: Any) -> None:
    bundled = load("bundled")
    monkeypatch.setattr(bundled, "version", lambda name: found)
    assert (bundled.lacks("any", lowest) is None) == fits


def test_a_package_that_no_bundle_has_yet_can_be_added() -> None:
    advice = load("bundled").advice(["rich", "click"])
    assert f"`scripts/lab_bundle DIR --python {HERE} --add rich --add click`" in advice


def load(name: str) -> Any:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bare_python(folder: Path) -> Path:
    """A Python without any package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def test_what_neither_side_has_is_named(bundle: Path, tmp_path: Path) -> None:
    environment = os.environ | {"LATENTMETER_PYTHON": str(bare_python(tmp_path / "bare")), "PYTHONPATH": ""}
    done = subprocess.run([bundle / "scripts" / "gpu_validation"], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    lacking = set(re.findall(r"^  (\S+): not installed$", done.stderr, re.MULTILINE))
    assert {"torch", "pandas", "nvidia-ml-py"} <= lacking
    assert not lacking & {"diffusers", "pydantic"}
    assert "a bundle does not bring torch" in done.stderr


def test_a_bundle_of_another_python_says_so(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "lab"
    (other / "wheels-3.99").mkdir(parents=True)
    (other / "scripts").mkdir()
    for name in ("pyproject.toml", "scripts/bundled.py"):
        (other / name).write_bytes((bundle / name).read_bytes())
    done = subprocess.run(
        [bare_python(tmp_path / "bare"), other / "scripts/bundled.py"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"is for Python 3.99; `scripts/lab_bundle DIR --python {HERE}`" in done.stderr


def test_a_run_comes_home_in_a_few_files(tmp_path: Path) -> None:
    run, pack, home = tmp_path / "h100-torch2.11.0+cu130", tmp_path / "back", tmp_path / "home"
    (run / "events").mkdir(parents=True)
    files = {"records.jsonl": b"{}\n", "doctor.json": b"{}", "report.md": b"#", "records.csv": b"key\n"}
    files |= {f"events/{number}.json.gz": os.urandom(9 << 20) for number in range(4)}
    for name, data in files.items():
        (run / name).write_bytes(data)
    for name in ("report.html", ".lock"):
        (run / name).touch()

    for _ in range(2):  # again over what is there
        subprocess.run([SCRIPTS / "lab_pack", run, pack], check=True)
    packed = [path for path in pack.rglob("*") if path.is_file()]
    assert len(packed) <= 8
    assert all(path.stat().st_size < 16 << 20 and re.fullmatch(r"[A-Za-z0-9._-]+", path.name) for path in packed)
    assert {"records.jsonl", "doctor.json", "report.md", "run.tar.gz.0", "run.tar.gz.2"} <= {p.name for p in packed}

    home.mkdir()
    way_back = re.search(r"cat DIR/(.*) -C results/reference", (SCRIPTS / "lab_pack").read_text())
    assert way_back is not None
    subprocess.run(f"cat {pack}/{way_back[1]} -C {home}", shell=True, check=True)
    unpacked = {str(p.relative_to(home / run.name)): p.read_bytes() for p in home.rglob("*") if p.is_file()}
    assert unpacked == files
