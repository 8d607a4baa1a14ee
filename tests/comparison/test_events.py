"""Estimate against measurement, event by event: a rule that is wrong is named with its bytes.

The measured stream is a dry run's (torch 2.13.0+cu130, an H200's properties); the estimates are those of today's rules, with
one of them broken on purpose.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from profiler.comparison.events import find_causes
from profiler.data.align import pair
from profiler.data.events import Block, Stream
from profiler.data.explanation import Explanation
from profiler.data.stack import DRY as DRY_RUN
from profiler.estimation.estimator import estimate_with_events
from profiler.files.streams import read_stream
from profiler.kernels import gemm, prices
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.find import find_model

aten = torch.ops.aten
MIB = 1 << 20
DRY = Path(__file__).parents[1] / "dry" / "events" / "sd1.5_decode_1x512x512_b1_fp16.json.gz"
MEASURED_PEAK = 846_076_416  # torch.cuda.max_memory_allocated() of that run


@pytest.fixture
def explained() -> Callable[[], Explanation]:
    """Explain the dry run by an estimate made now."""
    spec = find_model("sd1.5")
    stack = assumed_stack(find_gpu("h200"), "2.13.0", 92000, {DRY_RUN: "1"})
    measured = read_stream(DRY)

    def run() -> Explanation:
        found, events = estimate_with_events(spec.workload("decode"), spec, stack)
        assert found.peak.allocated_bytes is not None
        return find_causes(events, measured, stack, found.peak.allocated_bytes, MEASURED_PEAK)

    return run


def test_a_right_estimate_has_nothing_to_explain(explained: Callable[[], Explanation]) -> None:
    found = explained()
    assert (found.difference, found.causes, found.unexplained) == (0, (), 0)
    assert (found.only_measured, found.only_estimated) == (0, 0)
    assert found.text == "equal to the byte"


def test_a_workspace_without_its_rule_is_named(
    explained: Callable[[], Explanation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemm, "cublas_workspace_bytes", lambda stack: 0)
    found = explained()
    (cause,) = found.causes
    assert (cause.bytes, cause.op, cause.term) == (32 * MIB, "aten.bmm.default", "workspace")
    assert cause.module == "decoder.mid_block.attentions.0.to_q"
    assert (found.difference, found.unexplained) == (32 * MIB, 0)
    assert found.text.startswith("measured 32.0 MiB more: +32.0 MiB of workspace only measured in decoder.mid_block")


def test_a_workspace_of_another_size_is_named(
    explained: Callable[[], Explanation], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = prices.Prices.planned
    half_more = lambda prices, conv: ((found := right(prices, conv))[0], found[1] * 3 // 2)  # noqa: E731
    monkeypatch.setattr(prices.Prices, "planned", half_more)
    found = explained()
    (cause,) = found.causes
    assert (cause.module, cause.term, cause.why) == (
        "decoder.up_blocks.2.upsamplers.0.conv",
        "workspace",
        "of another size",
    )
    assert found.difference == cause.bytes == (258 - 386) * MIB  # segments of their own, in whole 2 MiB


def test_a_peak_at_another_moment_is_a_cause_by_itself(
    explained: Callable[[], Explanation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices.Prices, "planned", lambda prices, conv: ("cudnn, planned", 0))
    found = explained()
    missing, elsewhere = found.causes
    assert (missing.module, missing.bytes) == ("decoder.up_blocks.2.upsamplers.0.conv", 258 * MIB)
    assert (elsewhere.op, elsewhere.why) == ("aten.silu.default", "as the estimated peak stands at another moment,")
    assert found.difference == missing.bytes + elsewhere.bytes
    assert found.unexplained == 0


def test_what_the_counters_saw_beyond_the_streams_is_unexplained() -> None:
    same = stream((4096, "activations", 0))
    found = find_causes(same, same, assumed_stack(find_gpu("h200")), 4096, 8192)
    assert (found.difference, found.causes, found.unexplained) == (4096, (), 4096)
    assert found.text == "measured 4.0 KiB more: +4.0 KiB unexplained"


def stream(*blocks: tuple[int, str, int]) -> Stream:
    """Blocks that live to the end: bytes, term, op."""
    made = [
        Block(number, size, op, (size,), "byte", term, "cold", number) for number, (size, term, op) in enumerate(blocks)
    ]
    return Stream(made, list(range(len(made))), [("a", "mm"), ("b", "conv"), ("c", "mm")])


def test_blocks_pair_within_their_op_though_all_have_one_size() -> None:
    one = stream((512, "activations", 0), (512, "activations", 1), (512, "activations", 2))
    other = stream((512, "activations", 0), (512, "activations", 2))
    assert pair(one, other) == {0: 0, 2: 1}


def test_an_extra_op_shifts_nothing() -> None:
    one = stream((512, "activations", 0), (1024, "workspace", 1), (512, "activations", 2))
    other = Stream(one.blocks, one.events, [("a", "mm"), ("b", "only here"), ("c", "mm")])
    assert pair(one, other) == {0: 0, 1: 1, 2: 2}


def test_small_causes_are_one_with_their_sum() -> None:
    count = 25
    blocks = [Block(n, 512 * (n + 1), n, (1,), "float32", "activations", "cold", n) for n in range(count)]
    measured = Stream(blocks, list(range(count)), [(f"layer.{n}", "op") for n in range(count)])
    total = sum(block.bytes for block in blocks)
    found = find_causes(Stream([], [], []), measured, assumed_stack(find_gpu("h200")), 0, total)
    assert (len(found.causes), found.causes[0].bytes, found.unexplained) == (21, 512 * count, 0)
    assert found.causes[-1].why == "5 smaller causes together"
    assert (found.causes[-1].bytes, found.causes[-1].blocks) == (512 * (1 + 2 + 3 + 4 + 5), 5)
