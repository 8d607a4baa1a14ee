"""The profile of a real class: the estimate's own figures, taken apart by module and over time."""

from collections.abc import Callable

import pytest

from profiler.api import estimate
from profiler.diagnosis.borrowers import worst_borrowers
from profiler.diagnosis.profile import Profile
from profiler.diagnosis.timeline import bytes_at_peak, make_timeline
from profiler.diagnosis.tree import make_tree

CASES = [("tiny-video", "decode", 64), ("tiny-video", "denoise", 32), ("tiny-image", "encode", 32)]


@pytest.mark.parametrize(("model", "stage", "side"), CASES)
def test_figures_are_the_estimates(tiny: Callable[..., Profile], model: str, stage: str, side: int) -> None:
    profile = tiny(model, stage, side)
    found = estimate(f"tests/models/{model}.yaml", stage, gpu="h200", height=side, width=side)
    assert (profile.peak, profile.baseline) == (found.peak.allocated_bytes, found.baseline.allocated_bytes)
    assert profile.reserved == found.peak.reserved_bytes
    assert profile.ops[profile.peak_op] == (found.peak_at.module, found.peak_at.op)
    assert [profile.sizes[block.number] for block in profile.alive[:10]] == [item.bytes for item in found.largest]


@pytest.mark.parametrize(("model", "stage", "side"), CASES)
def test_parts_add_up(tiny: Callable[..., Profile], model: str, stage: str, side: int) -> None:
    profile = tiny(model, stage, side)
    found = make_timeline(profile, 50)
    assert found.peak.allocated == profile.peak and len(found.points) <= 50
    assert all(sum(point.by_group) == point.allocated for point in found.points)
    assert sum(bytes_at_peak(profile).values()) == profile.peak
    root = make_tree(profile)[0]
    resident = sum(profile.sizes[b.number] for b in profile.blocks if b.phase != "cold")
    assert (root.at_peak, root.weights) == (profile.peak - resident, resident)
    own = sum(profile.sizes[b.number] for b in profile.blocks if b.phase == "cold")
    assert root.produced == own


def test_the_tree_counts_calls_and_finds_weights(tiny: Callable[..., Profile]) -> None:
    nodes = {node.path: node for node in make_tree(tiny("tiny-video", "decode", 64))}
    decoder = nodes["decoder"]
    assert (decoder.kind, decoder.calls) == ("WanDecoder3d", 2)  # two latent frames, one by one
    assert nodes["decoder.mid_block.resnets.0"].calls == 2
    assert nodes["encoder"].weights > 0 and nodes["encoder"].produced == 0
    assert nodes["decoder"].weights + nodes["encoder"].weights < nodes[""].weights
    assert decoder.own_peak < decoder.peak  # most of what lives in it, its blocks make
    assert decoder.peak >= max(node.peak for path, node in nodes.items() if path.startswith("decoder."))


def test_the_worst_borrower_is_a_convolution(tiny: Callable[..., Profile]) -> None:
    worst = worst_borrowers(tiny("tiny-video", "decode", 64))[0]
    assert worst.module.startswith("decoder.up_blocks") and worst.op == "aten.convolution.default"
    assert worst.kernel.startswith("convolution cudnn")
