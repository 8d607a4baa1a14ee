"""A whole pipeline in dry CUDA, as scripts/dry/record_pipeline.py records it: small ones without text."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.dry.test_dry_cuda import ROOT, dry

pytestmark = pytest.mark.dry

FACTORY = """
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDIMScheduler, DDPMPipeline, DiTPipeline, DiTTransformer2DModel, UNet2DModel

def made():
    with init_empty_weights():
        denoiser = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=32, in_channels=4, out_channels=8,
                                         num_layers=3, sample_size=8, norm_num_groups=4)
        vae = AutoencoderKL(block_out_channels=(32,), norm_num_groups=8, latent_channels=4)
    pipe = DiTPipeline(transformer=denoiser.half(), vae=vae.half(), scheduler=DDIMScheduler())
    return pipe, {"class_labels": [1], "num_inference_steps": 3, "output_type": "np"}

def pixels():
    with init_empty_weights():
        unet = UNet2DModel(sample_size=16, block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2,
                           up_block_types=("UpBlock2D",) * 2, norm_num_groups=8)
    return DDPMPipeline(unet, DDIMScheduler()), {"num_inference_steps": 2, "output_type": "np"}
"""


def record(folder: Path, factory: str, *options: str) -> dict[str, Any]:
    """What the script writes."""
    (folder / "small.py").write_text(FACTORY)
    done = dry(
        "python", ROOT / "scripts" / "dry" / "record_pipeline.py", f"{folder / 'small.py'}:{factory}", *options,
        "--out", folder / "out.json.gz", gpu="rtx-4090",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(gzip.decompress((folder / "out.json.gz").read_bytes()))
    return found


def test_model_offload_moves_a_component_at_a_time(tmp_path: Path) -> None:
    found = record(tmp_path, "made", "--offload", "model")
    names = [(phase["call"], phase["name"]) for phase in found["phases"] if phase["name"] != "pipeline"]
    assert names == [(call, name) for call in (1, 2) for name in ["transformer"] * 3 + ["vae.decode"]]
    assert found["pools"] == {}
    left = found["phases"][-1]["allocated_current"]
    assert left == sum_of(found["stream"])
    assert left < min(phase["allocated_current"] for phase in found["phases"] if phase["name"] == "transformer")


def test_group_offload_with_a_stream_pins_and_has_a_pool_of_its_own(tmp_path: Path) -> None:
    found = record(tmp_path, "pixels", "--offload", "group-leaf", "--stream", "--calls", "1")
    assert found["phases"][-1]["pinned"] > 1 << 20
    assert set(found["pools"].values()) == {1}


def sum_of(stream: list[int]) -> int:
    """Bytes that are left of a stream, in the allocator's blocks of 512."""
    births = [size for size in stream if size > 0]
    dead = {-event for event in stream if event < 0}
    return sum((size + 511) // 512 * 512 for number, size in enumerate(births, start=1) if number not in dead)
