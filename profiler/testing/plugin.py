"""The pytest plugin: a test says how much memory a call may need on a card, and it is estimated without a GPU.

pytest imports this file at its start, in every project of an environment that has latentmeter. So it imports neither torch
nor much else before a test asks, and does nothing where no test does.
"""

import argparse
from collections.abc import Generator

import pytest

from profiler.errors import UserError
from profiler.testing.baseline import Baseline, Keeper
from profiler.testing.peak import MARK, SIGNATURE, PeakMemory, asked_of, mistakes_told

BASELINE = pytest.StashKey[Baseline | None]()
CALLED = pytest.StashKey[PeakMemory]()
DEFAULT_TOLERANCE = 1.0  # percent: small enough for one more tensor, large enough for another version of a library


def percent(text: str) -> float:
    """A share of growth in percent, from 0. Raises argparse's error for anything else."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage; expected one such as 1 or 0.5")
    return number


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, in a group of their own in `pytest --help`."""
    group = parser.getgroup("latentmeter", "peak memory, estimated without a GPU (latentmeter)")
    group.addoption(
        "--memory-baseline",
        metavar="FILE",
        help="JSON file of known peaks: a test with the fixture peak_memory fails where its peak grew beyond the known one, "
        "and where none is known. memory_baseline in the configuration file names one relative to the root folder",
    )
    group.addoption(
        "--memory-update",
        action="store_true",
        help="write the peaks of the tests that pass into the baseline, in the place of comparing; others keep theirs",
    )
    group.addoption(
        "--memory-tolerance",
        metavar="PERCENT",
        type=percent,
        default=DEFAULT_TOLERANCE,
        help=f"growth over the baseline that is let pass (default: {DEFAULT_TOLERANCE:g})",
    )
    parser.addini("memory_baseline", "the file of --memory-baseline, where that is not given", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark; read the baseline, where there is one. A damaged one ends pytest before any test runs."""
    config.addinivalue_line("markers", f"{MARK}{SIGNATURE}: what the fixture peak_memory checks, without a GPU")
    given, update = config.getoption("memory_baseline"), config.getoption("memory_update")
    path = config.invocation_params.dir / given if given else None
    if path is None and (written := config.getini("memory_baseline")):
        path = config.rootpath / written
    if path is None and update:
        raise pytest.UsageError("--memory-update: name the file with --memory-baseline FILE")
    config.stash[BASELINE] = None
    if path is not None:
        try:
            baseline = Baseline(path, config.getoption("memory_tolerance") / 100, update=update)
        except UserError as error:
            raise pytest.UsageError(str(error)) from error
        config.stash[BASELINE] = baseline
        if not hasattr(config, "workerinput"):  # no worker of xdist, but the process that hears of all, and writes
            config.pluginmanager.register(Keeper(baseline), "latentmeter-baseline")


@pytest.fixture
def peak_memory(request: pytest.FixtureRequest) -> PeakMemory:
    """Call it with a function, its inputs and its modules, as `profiler.estimate_call`: the mark says what may be needed."""
    item = request.node
    with mistakes_told():
        item.stash[CALLED] = made = PeakMemory(item, asked_of(item), request.config.stash[BASELINE])
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that asks for a check, and would pass without one. What its module alone is marked with asks for none."""
    yield
    marked = [node for node, _ in item.iter_markers_with_node(MARK) if isinstance(node, pytest.Item | pytest.Class)]
    asks = marked or CALLED in item.stash
    if asks and not (CALLED in item.stash and item.stash[CALLED].called):
        pytest.fail(f"{MARK}: the test never calls the fixture of this name, so nothing was checked", pytrace=False)
