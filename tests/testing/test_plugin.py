"""The pytest plugin in projects of its own: limits, baselines and their messages, with real torch and no GPU."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import profiler
import profiler.diagnosis.call  # once, here: pytester takes away again what a project of its own imports
from profiler.data.units import MIB
from profiler.testing.baseline import read_peaks
from profiler.testing.peak import node_id

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
PLUGIN = ("-p", "profiler.testing.plugin", "--strict-markers")  # no other is loaded
NET = """
import pytest, torch
from torch import nn

class Net(nn.Module):
    '''Two tensors of 4096 x width floats are alive at its peak, in `act`; 16 KiB each for a width of 1.'''

    def __init__(self, width=1024):
        super().__init__()
        self.wide, self.act, self.narrow = nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 64)

    def forward(self, x):
        return self.narrow(self.act(self.wide(x)))

X = torch.empty(4096, 64, device="meta")
"""
XDIST = ("-p", "xdist", "-n2", "--dist", "loadgroup")
GUARDED = """
pytestmark = pytest.mark.peak_memory(gpu="rtx-4090", torch="2.13.0")

@pytest.mark.parametrize("batch", [1, 2])
def test_net(batch, peak_memory):
    peak_memory(Net({width}), inputs=[X[: 4096 // batch]])

def test_two(peak_memory):
    peak_memory(Net({width}), inputs=[X], name="first")
    peak_memory(Net(64), inputs=[X], name="second")
    {then}

def test_another_thing():
    pass
"""
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Write a test file after the net above, and run it: `run("def test_it(): ...", "-n2", width=1024)`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of xdist's workers, which start elsewhere
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]")  # its folder is the root, from which ids are told
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)  # the suite itself may run under it

    def run(tests: str, *arguments: str, **names: object) -> pytest.RunResult:
        named = {"width": 1024, "then": "pass"} | names
        for name, value in named.items():
            tests = tests.replace(f"{{{name}}}", str(value))
        (pytester.path / "test_it.py").write_text(NET + tests)
        return pytester.runpytest_inprocess(*PLUGIN, *arguments)

    return run


def test_a_call_below_its_limit_passes_and_gives_its_estimate(run: Run) -> None:
    run(
        """
        @pytest.mark.peak_memory("64 MiB", gpu="rtx-4090", torch="2.13.0")
        def test_it(peak_memory):
            found = peak_memory(Net(), inputs=[X])
            assert found.terms.activations == 2 * 16 << 20, found.terms
            assert found.stack.gpu == "NVIDIA GeForce RTX 4090"
        """.replace("\n        ", "\n")
    ).assert_outcomes(passed=1)


def test_a_call_above_its_limit_fails_with_what_is_alive_at_the_peak(run: Run) -> None:
    result = run(
        '@pytest.mark.peak_memory("20 MiB", gpu="rtx-4090", torch="2.13.0")\n'
        "def test_it(peak_memory): peak_memory(Net(), inputs=[X])"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "peak memory: 4?.? MiB allocated, 2?.? MiB above the limit of 20.0 MiB",
            "estimated for NVIDIA GeForce RTX 4090, torch 2.13.0*",
            "hot spot: 4?.? MiB allocated at the peak, in act (relu)*",
            "at the peak: *wide 16.0 MiB*",
            "  16.0 MiB  4096x1024 float32, wide (addmm): read by this op",
            "  16.0 MiB  4096x1024 float32, act (relu): made by this op",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_the_level_may_be_what_the_allocator_reserves(run: Run) -> None:
    result = run(
        '@pytest.mark.peak_memory("43 MiB", gpu="rtx-4090", torch="2.13.0", level="{level}")\n'
        "def test_it(peak_memory): peak_memory(Net(), inputs=[X])",
        level="reserved",
    )
    result.stdout.fnmatch_lines(["peak memory: * reserved, * above the limit of 43.0 MiB"])


def test_what_the_card_does_not_hold_fails_without_a_limit(run: Run) -> None:
    result = run(
        '@pytest.mark.peak_memory(gpu="rtx-4090")\n'
        "def test_it(peak_memory): peak_memory(Net(), inputs=[torch.empty(1 << 22, 64, device='meta')])"
    )
    result.stdout.fnmatch_lines(
        ["peak memory: does not fit on NVIDIA GeForce RTX 4090 (*", "hot spot: *, in act (relu)*"]
    )


@pytest.mark.parametrize(
    ("mark", "call", "said"),
    [
        (
            '"8 GiBs", gpu="rtx-4090"',
            "X",
            "peak_memory: '8 GiBs' is no memory size; expected one such as 12GiB or 512MiB",
        ),
        ('"8 GiB", gpu="rtx-4091"', "X", "peak_memory: no card 'rtx-4091': did you mean 'rtx-4090'*"),
        ('"8 GiB"', "X", 'peak_memory: name the card, as in @pytest.mark.peak_memory("8 GiB", gpu="rtx-4090"*'),
        ('"8 GiB", card="rtx-4090"', "X", "peak_memory: has no card; it takes *gpu=*"),
        ('gpu="rtx-4090", level="device"', "X", "peak_memory: no level 'device'; one of allocated, reserved"),
        ('"8 GiB", "9 GiB", gpu="rtx-4090"', "X", "peak_memory: takes one limit*"),
        ('"8 GiB", gpu="rtx-4090", torch="1.2"', "X", "peak_memory: *1.2*"),
        ('"8 GiB", gpu="rtx-4090"', "X[:, :3]", "*ModelError: Net: cannot be traced without data*"),
    ],
)
def test_a_mistake_is_told(run: Run, mark: str, call: str, said: str) -> None:
    result = run(f"@pytest.mark.peak_memory({mark})\ndef test_it(peak_memory): peak_memory(Net(), inputs=[{call}])")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([said])


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("def test_it(): pass", "*never calls the fixture of this name*"),
        ("def test_it(peak_memory): pass", "*never calls the fixture of this name*"),
        ("def test_it(peak_memory): [peak_memory(Net(), inputs=[X]) for _ in '12']", "*called twice as '': give each*"),
    ],
)
def test_a_test_that_would_check_nothing_fails(run: Run, test: str, said: str) -> None:
    result = run(f'@pytest.mark.peak_memory("8 GiB", gpu="rtx-4090")\n{test}')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([said])


def test_the_mark_of_a_class_asks_for_a_check_and_that_of_a_module_for_none(run: Run) -> None:
    mark = '@pytest.mark.peak_memory("8 GiB", gpu="rtx-4090")\n'
    method = "class TestIt:\n    def test_it(self): pass"
    run(mark + method).assert_outcomes(failed=1)
    run(mark.replace("@", "pytestmark = ") + method).assert_outcomes(passed=1)


def test_a_baseline_is_written_and_met_whatever_the_order(run: Run, pytester: pytest.Pytester) -> None:
    update = ("--memory-baseline", "peaks.json", "--memory-update")
    result = run(GUARDED, *update)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*peaks.json: 4 written"])
    text = (pytester.path / "peaks.json").read_text()
    data = json.loads(text)
    assert text == json.dumps(data, indent=2, sort_keys=True) + "\n", "a change is a line of its own, in its place"
    names = [
        "test_it.py::test_net[1]",
        "test_it.py::test_net[2]",
        "test_it.py::test_two first",
        "test_it.py::test_two second",
    ]
    assert [*data["peaks"]] == names
    first = read_peaks(pytester.path / "peaks.json")[names[0]]
    net = torch.nn.Sequential(torch.nn.Linear(64, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 64))
    found = profiler.estimate_call(net, inputs=[torch.empty(4096, 64)], gpu="rtx-4090", torch="2.13.0")
    assert (first.allocated_bytes, first.gpu) == (found.peak.allocated_bytes, "NVIDIA GeForce RTX 4090")
    assert first.reserved_bytes == found.peak.reserved_bytes
    assert sum(first.alive.values()) == first.allocated_bytes
    assert first.alive["act (relu)"] == 16 * MIB
    run(GUARDED, *update, "-k", "two")
    run(GUARDED, *update, "-k", "net")
    assert (pytester.path / "peaks.json").read_text() == text, "the same peaks are the same bytes"
    run(GUARDED, *update[:2]).assert_outcomes(passed=4)


def test_growth_fails_and_names_its_owner_and_shrinking_is_said(run: Run) -> None:
    baseline = ("--memory-baseline", "peaks.json")
    run(GUARDED, *baseline, "--memory-update")
    result = run(GUARDED, *baseline, width=1280)
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines(
        [
            "peak memory: grew by 8.1 MiB (+* %, 1 % allowed): * allocated",
            "  +4.0 MiB  act (relu)",
            "--memory-update makes it the baseline",
            "hot spot: * in act (relu)*",
        ],
        consecutive=False,
    )
    run(GUARDED, *baseline, "--memory-tolerance", "25", width=1280).assert_outcomes(passed=4)
    result = run(GUARDED, *baseline, width=512)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["test_it.py::test_net[[]1]: shrank by 1*.? MiB (-* %): 4*.? MiB -> *.? MiB allocated"])


def test_what_is_not_in_the_baseline_says_how_to_add_it(run: Run) -> None:
    run(GUARDED, "--memory-baseline", "peaks.json", "--memory-update", "-k", "net")
    result = run(GUARDED, "--memory-baseline", "peaks.json")
    result.assert_outcomes(passed=3, failed=1)
    known = "peak memory: test_it.py::test_two first is not in the baseline *peaks.json"
    result.stdout.fnmatch_lines([f"{known}; the same pytest with --memory-update adds it once the test passes"])
    result = run(GUARDED.replace("rtx-4090", "l4"), "--memory-baseline", "peaks.json", "-k", "net")
    result.stdout.fnmatch_lines(
        ["*is for NVIDIA GeForce RTX 4090, not NVIDIA L4; --memory-update replaces it once the test passes"]
    )


def test_a_limit_that_is_broken_is_told_beside_a_baseline_that_does_not_serve(run: Run) -> None:
    limited = GUARDED.replace('(gpu="', '("20 MiB", gpu="')
    over = "peak memory: * above the limit of 20.0 MiB"
    result = run(limited, "--memory-baseline", "peaks.json", "-k", "two")
    result.stdout.fnmatch_lines([over, "peak memory: test_it.py::test_two first is not in the baseline *"])
    run(GUARDED, "--memory-baseline", "peaks.json", "--memory-update", "-k", "two")
    result = run(limited.replace("rtx-4090", "l4"), "--memory-baseline", "peaks.json", "-k", "two")
    result.stdout.fnmatch_lines(
        [over, "peak memory: the baseline of * is for NVIDIA GeForce RTX 4090, not NVIDIA L4; *"]
    )


def test_a_test_that_fails_keeps_its_peak_and_those_of_others(run: Run, pytester: pytest.Pytester) -> None:
    update = ("--memory-baseline", "peaks.json", "--memory-update")
    run(GUARDED, *update)
    before = read_peaks(pytester.path / "peaks.json")
    result = run(GUARDED, *update, width=2048, then="assert False")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*peaks.json: 2 written, 2 kept of tests that did not run or did not pass"])
    after = read_peaks(pytester.path / "peaks.json")
    assert after.keys() == before.keys()
    assert [key for key in after if after[key] != before[key]] == ["test_it.py::test_net[1]", "test_it.py::test_net[2]"]


def test_workers_of_xdist_write_one_baseline_and_compare_with_it(run: Run, pytester: pytest.Pytester) -> None:
    tests = GUARDED.replace("def test_two", '@pytest.mark.xdist_group("pair")\ndef test_two')
    run(tests, "--memory-baseline", "alone.json", "--memory-update")
    result = run(tests, "--memory-baseline", "peaks.json", "--memory-update", *XDIST)
    result.assert_outcomes(passed=4)
    assert (pytester.path / "peaks.json").read_text() == (pytester.path / "alone.json").read_text()


def test_a_group_of_xdist_is_no_part_of_a_tests_name() -> None:
    item: Any = SimpleNamespace(nodeid="tests/test_it.py::test_net[1]@pair", name="test_net[1]")
    assert node_id(item) == "tests/test_it.py::test_net[1]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory-update"], "*--memory-update: name the file with --memory-baseline FILE"),
        (["--memory-tolerance", "-1"], "*'-1' is no percentage; expected one such as 1 or 0.5"),
        (["--memory-baseline", "damaged.json"], "*damaged.json: not a memory baseline*"),
        (["--memory-baseline", "newer.json"], "*newer.json: written by a newer latentmeter*"),
        (["--memory-baseline", "test_it.py/x", "--memory-update"], "*test_it.py/x: *"),
        (["--memory-baseline", "tset/peaks.json", "--memory-update"], "*tset/peaks.json: there is no folder *tset; *"),
    ],
)
def test_a_wrong_option_ends_pytest_before_any_test(
    run: Run, pytester: pytest.Pytester, arguments: list[str], said: str
) -> None:
    pytester.makefile(".json", damaged='{"schema": 1, "peaks": <<<<<<<', newer='{"schema": 9, "peaks": {}}')
    result = run(GUARDED, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_the_configuration_may_name_the_baseline(run: Run, pytester: pytest.Pytester) -> None:
    pytester.mkdir("kept")
    pytester.makeini("[pytest]\nmemory_baseline = kept/peaks.json")
    run(GUARDED, "--memory-update").assert_outcomes(passed=4)
    assert len(read_peaks(pytester.path / "kept" / "peaks.json")) == 4


def test_at_pytests_start_the_plugin_imports_next_to_nothing() -> None:
    heavy = {"torch", "numpy", "pandas", "pydantic", "yaml", "click", "profiler.api"}
    code = "import sys, pytest; before = {*sys.modules}; import profiler.testing.plugin; "
    code += f"print({heavy} & ({{*sys.modules}} - before))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_distribution_names_the_plugin_and_does_not_need_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [module] = project["entry-points"]["pytest11"].values()
    assert hasattr(import_module(module), "pytest_addoption")
    assert not any("pytest" in line for line in project["dependencies"])


def test_another_project_sees_a_mark_and_three_options_and_nothing_else(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        "def test_it(request): assert not request.config.pluginmanager.has_plugin('latentmeter-baseline')"
    )
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*memory*")
    pytester.runpytest_inprocess(*PLUGIN, "--markers").stdout.fnmatch_lines(
        ["@pytest.mark.peak_memory(*gpu=*without a GPU"]
    )
