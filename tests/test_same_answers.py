"""scripts/same_answers, over a small repository whose `profiler` prints a fixed answer."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from tests.scripts import load_script

SCRIPT = Path(__file__).parent.parent / "scripts" / "same_answers"
MODEL = {"id": "m", "vae": None, "denoiser": None, "default": None, "latent": None}
PROGRAM = """
import json, sys, time
if sys.argv[1:] == ["models", "--json"]:
    print(json.dumps({"m": MODEL}))
elif "estimate" in sys.argv:
    time.sleep(PAUSE)
    print(json.dumps({"peak": {"bytes": BYTES}, "seconds": time.time(), "notes": {"seconds": str(time.time())}}))
else:
    sys.exit("no")
"""


same_answers = load_script("same_answers")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one commit, which has the script."""
    root = tmp_path / "repository"
    for folder in ("scripts", "profiler", "configs/models", "configs/gpus"):
        (root / folder).mkdir(parents=True)
    shutil.copy(SCRIPT, root / "scripts")
    (root / "profiler" / "__init__.py").touch()
    (root / "configs" / "models" / "m.yaml").touch()
    (root / "configs" / "gpus" / "h200.yaml").touch()
    write(root)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", root, *words], check=True)
    return root


def write(root: Path, size: str = "1", pause: str = "0") -> None:
    text = PROGRAM.replace("MODEL", repr(MODEL)).replace("BYTES", size).replace("PAUSE", pause)
    (root / "profiler" / "__main__.py").write_text(text)


def start(root: Path, *words: str, commit: str = "HEAD") -> subprocess.Popen[str]:
    """The script, comparing `commit` with the tree; what is temporary or kept lies beside the repository."""
    folders = {"XDG_CACHE_HOME": str(root.parent / "kept"), "TMPDIR": str(root.parent / "temporary")}
    Path(folders["TMPDIR"]).mkdir(exist_ok=True)
    command = [
        sys.executable,
        str(root / "scripts" / "same_answers"),
        commit,
        "--planner",
        "off",
        "--questions",
        "30",
        *words,
    ]
    return subprocess.Popen(
        command,
        env=os.environ | folders,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell starts in the background ignores SIGINT, and so would all below it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def leftovers(root: Path) -> list[Path]:
    return list((root.parent / "temporary").iterdir())


def test_the_same_code_gives_the_same_answers_whatever_the_clock_says(repository: Path) -> None:
    for _ in range(2):  # asked, then kept
        run = start(repository)
        out, err = run.communicate()
        assert (run.returncode, out) == (0, "30 answers: 30 the same, 0 differ, 0 as allowed\n")
    assert "before, planner off: kept from before" in err
    assert leftovers(repository) == []


def test_a_difference_is_told_with_question_key_and_values(repository: Path, tmp_path: Path) -> None:
    write(repository, size="2")
    run = start(repository, "--out", str(tmp_path / "out.json"))
    out, _ = run.communicate()
    assert run.returncode == 1
    assert "estimate m --stage decode" in out
    assert "    peak.bytes: 1 -> 2\n" in out
    rows = json.loads((tmp_path / "out.json").read_text())
    assert out.endswith(f"30 answers: {30 - len(rows)} the same, {len(rows)} differ, 0 as allowed\n")
    assert rows[0]["differences"] == [{"path": "peak.bytes", "values": [1, 2], "allowed": False}]
    allowed = start(repository, "--allow", "peak")
    assert f"0 differ, {len(rows)} as allowed" in allowed.communicate()[0]
    assert allowed.returncode == 0


def test_a_mistake_ends_with_2(repository: Path) -> None:
    run = start(repository, commit="nothing")
    out, err = run.communicate()
    assert (run.returncode, out) == (2, "")
    assert "same_answers: fatal: Needed a single revision" in err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_comparison_leaves_nothing(repository: Path, sent: signal.Signals, code: int) -> None:
    write(repository, pause="60")
    run = start(repository)
    deadline = time.monotonic() + 30
    while len(leftovers(repository)) < 2 and time.monotonic() < deadline:  # the checkout and a cache folder
        time.sleep(0.1)
    os.kill(run.pid, sent)
    assert run.wait(20) == code
    assert leftovers(repository) == []


def test_paths_of_what_differs() -> None:
    before = {"a": {"b": [1, {"c": 2}], "seconds": 1}, "gone": None, "n": 1, "few": [1]}
    after = {"a": {"b": [1, {"c": 3}], "seconds": 2}, "new": 0, "n": 1.0, "few": [1, 2]}
    found = list(same_answers.differences(before, after))
    assert found == [
        ("a.b[1].c", 2, 3),
        ("gone", None, same_answers.MISSING),
        ("n", 1, 1.0),
        ("few", [1], [1, 2]),
        ("new", same_answers.MISSING, 0),
    ]


@pytest.mark.parametrize(
    ("path", "key", "is_allowed"),
    [("a.b[1].c", "c", True), ("a.b[1].c", "a.b", True), ("a.bc", "a.b", False), ("largest[0].bytes", "largest", True)],
)
def test_allowed_keys(path: str, key: str, is_allowed: bool) -> None:
    assert same_answers.is_allowed(path, [key]) is is_allowed


@pytest.mark.parametrize("rule", ["8k", "4k+1", "16k+24", "200k+320"])
def test_sizes_obey_the_rule(rule: str) -> None:
    step, first = (int(part) for part in f"{rule}+0".replace("k", "").split("+")[:2])
    for seed in range(50):
        size = same_answers.sized(Random(seed), rule, 720, 0.6)
        assert size > 0
        assert (size - first) % step == 0


def test_a_side_that_was_stopped_begins_no_process(tmp_path: Path) -> None:
    """An interrupt may come after its folder was made and before its process would be."""
    side = same_answers.Side("after", tmp_path, "off")
    side.stop()
    with pytest.raises(RuntimeError, match="after, planner off: stopped"):
        side.answers([["models"]])
    assert side.process is None
