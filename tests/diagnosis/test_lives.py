"""Why a block is alive: told from who reads it next and who frees it."""

import pytest

from profiler.diagnosis.lives import alive_at_peak
from profiler.diagnosis.profile import Profile
from tests.diagnosis.handmade import Story


def residual_block() -> Profile:
    """A block of a network: norm, two products, an addition; then the next call of it reads a cache."""
    story = Story()
    weight = story.make(100, term="weights", phase="model")
    cache = story.make(300, phase="model", term="weights")
    for number in range(2):
        story.enter("block")
        x = story.make(1000 + number, op="clone")
        story.enter("block.norm")
        normed = story.make(800, reads=(x, weight))
        story.leave()
        story.run("cat", reads=(cache,))
        story.free(cache)
        cache = story.make(300, op="slice", reads=(normed,))
        early = story.make(200, reads=(normed,))
        unread = story.make(150)
        top = story.make(900, op="bmm", reads=(normed,))
        story.run("sub", reads=(early,))
        y = story.make(1000, op="add", reads=(x, top))
        story.leave()
        for block in (x, normed, early, unread, top, y):
            story.free(block)
    return story.profile()


@pytest.fixture(scope="module")
def because() -> dict[int, tuple[str, str]]:
    return {item.bytes: (item.why, item.because) for item in alive_at_peak(residual_block())}


def test_each_reason(because: dict[int, tuple[str, str]]) -> None:
    assert because[100] == ("weights", "stands before the call")
    assert because[1001][0] == "read"  # by the addition, which is the peak
    assert because[1000] == ("written", "made by this op")
    assert because[800] == ("held", "last read by block (bmm); held by the stage")
    assert because[300] == ("cache", "kept for the next call, not read again")
    assert because[150] == ("unread", "never read; held by the stage")


def test_a_residual_is_read_before_and_added_later() -> None:
    story = Story().enter("block")
    x = story.make(1000)
    story.enter("block.inner")
    story.run("mean", reads=(x,))
    made = story.make(5000)
    story.free(made)
    story.leave()
    story.make(500, op="add", reads=(x,))
    kinds = {item.bytes: item.why for item in alive_at_peak(story.profile())}
    assert kinds == {5000: "written", 1000: "residual"}


@pytest.mark.parametrize(
    ("peak", "addition", "why"),
    [
        ("block", "block", "residual"),
        ("block.inner.deep", "block", "residual"),
        ("block", "", "residual"),  # the stage itself adds, above every module
        ("block", "block.inner", "waits"),
        ("block.1", "block.2", "waits"),
        ("block.10", "block.1", "waits"),  # a neighbour whose name begins the same
    ],
)
def test_a_residual_is_added_by_the_module_of_the_peak_or_one_above_it(peak: str, addition: str, why: str) -> None:
    story = Story()
    x = story.make(1000)
    story.run("mean", reads=(x,))
    story.enter(peak)
    story.free(story.make(5000))
    story.leave()
    story.enter(addition) if addition else None
    story.make(500, op="add", reads=(x,))
    kinds = {item.bytes: item.why for item in alive_at_peak(story.profile())}
    assert kinds == {5000: "written", 1000: why}


def test_a_product_that_is_only_added_is_no_residual() -> None:
    story = Story().enter("block")
    x = story.make(1000)
    story.free(story.make(5000))
    story.make(500, op="add", reads=(x,))
    kinds = {item.bytes: item.why for item in alive_at_peak(story.profile())}
    assert kinds == {5000: "written", 1000: "waits"}


def test_two_modules_in_a_row_make_no_cache() -> None:
    story = Story()
    x = story.enter("a").make(1000)
    story.leave().enter("b").make(2000, reads=(x,))
    story.leave()
    story.run("add", (x,))
    assert {item.why for item in alive_at_peak(story.profile())} == {"read", "written"}
