"""The peers' formulas: known figures of each, and none where a peer has no formula."""

import pytest

from profiler.data.units import GIB, MIB
from profiler.data.workload import MemoryOptions
from profiler.evidence.peers import QUANTITY, SOURCES, peer_figures
from profiler.models.find import find_model


def of(model: str, peer: str, stage: str = "decode", **size: object) -> int | None:
    spec = find_model(model)
    return peer_figures(spec.workload(stage, **size), spec)[peer]  # type: ignore[arg-type, index]


@pytest.mark.parametrize(
    ("model", "peer", "stage", "size", "expected"),
    [
        ("sdxl", "comfyui", "decode", {"dtype": "fp16"}, 2178 * 128 * 128 * 64 * 2),
        ("sdxl", "comfyui", "encode", {"dtype": "fp32"}, 1767 * 1024 * 1024 * 4),
        ("sdxl", "comfyui", "decode", {"dtype": "fp16", "batch": 2}, 2 * 2178 * 128 * 128 * 64 * 2),
        ("wan2.1-t2v-1.3b", "comfyui", "decode", {"dtype": "fp16"}, 7000 * 60 * 104 * 64 * 2),
        ("wan2.1-t2v-1.3b", "comfyui", "decode", {"dtype": "fp16", "frames": 5}, 2200 * 60 * 104 * 64 * 2),
        ("ltx-video-2b", "comfyui", "encode", {"dtype": "bf16", "frames": 1}, 80 * 7 * 512 * 704 * 2),
        ("sdxl", "comfyui", "denoise", {"dtype": "fp16"}, round(128 * 128 * 2 * 0.01 * 0.8 * MIB)),
        ("sd1.5", "comfyui", "denoise", {"dtype": "fp16"}, round(64 * 64 * 2 * 0.01 * MIB)),
        ("wan2.1-t2v-14b", "comfyui", "denoise", {}, round(21 * 90 * 160 * 2 * 0.01 * 5120 / 2222 * MIB)),
        ("sdxl", "invokeai", "decode", {"dtype": "fp32"}, 2200 * 1024 * 1024 * 4 + 250 * MIB),
        ("flux.1-dev", "invokeai", "encode", {"dtype": "bf16"}, 1100 * 1024 * 1024 * 2),
        ("qwen-image", "invokeai", "decode", {"dtype": "fp16"}, 2900 * 1024 * 1024 * 2),
        ("wan2.1-t2v-1.3b", "invokeai", "decode", {"dtype": "fp16"}, (6500 + 2 * 3 * 81) * 480 * 832 * 2),
        ("sdxl", "weights-only", "decode", {"dtype": "fp16"}, 83_653_863 * 2),
        ("sdxl", "weights+20%", "denoise", {"dtype": "fp16"}, round(2_567_463_684 * 2 * 1.2)),
    ],
)  # fmt: skip
def test_a_formula_gives_its_figure(model: str, peer: str, stage: str, size: dict[str, object], expected: int) -> None:
    assert of(model, peer, stage, **size) == expected


def test_slicing_runs_one_item_at_a_time() -> None:
    options = MemoryOptions(slicing=True)
    assert of("sdxl", "comfyui", batch=2, options=options) == of("sdxl", "comfyui")


@pytest.mark.parametrize(
    ("model", "peer", "stage", "options"),
    [
        ("sdxl", "comfyui", "roundtrip", MemoryOptions()),
        ("sdxl", "comfyui", "decode", MemoryOptions(tiling=True)),
        ("hunyuan-video", "invokeai", "decode", MemoryOptions()),
        ("sdxl", "weights-only", "patch-embed", MemoryOptions()),
    ],
)
def test_no_formula_is_none(model: str, peer: str, stage: str, options: MemoryOptions) -> None:
    assert of(model, peer, stage, options=options) is None


def test_every_peer_has_a_source_and_a_tile_is_priced_with_overlap() -> None:
    assert set(SOURCES) == set(QUANTITY)
    tiled = of("flux.1-dev", "invokeai", options=MemoryOptions(tiling=True, tile=(512, 512)), dtype="bf16")
    assert tiled == 2200 * 512 * 512 * 2 * 1.25 < GIB * 2
