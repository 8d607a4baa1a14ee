"""The truth of `latentmeter fit`: `scripts/fit_check`."""

import json
from typing import Any

import pytest

from tests.dry.test_dry_cuda import ROOT, dry
from tests.scripts import load_script

SCRIPT = load_script("fit_check")
CODE = """import os

os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"  # before torch is imported

import torch
from diffusers import StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("HUB", torch_dtype=torch.float16)
pipe.vae.tile_sample_min_size = 384
pipe.vae.tile_latent_min_size = 48
pipe.vae.enable_tiling()
pipe.enable_group_offload(onload_device=torch.device("cuda"), offload_type="leaf_level", use_stream=True)

result = pipe(num_inference_steps=50, height=512, width=512, prompt="...")"""


def test_each_change_is_left_out_by_itself() -> None:
    settings = {"offload": "group-leaf", "stream": True, "tile": "384x384", "tiling": True, "alloc-conf": "..."}
    less = {name: code for name, code, _ in SCRIPT.with_less({"code": CODE, "settings": settings})}
    assert list(less) == ["--offload model", "tiles a third larger", "no --alloc-conf"]
    assert "pipe.enable_model_cpu_offload()\n" in less["--offload model"]
    assert "group" not in less["--offload model"]
    assert "min_size = 512\npipe.vae.tile_latent_min_size = 64\n" in less["tiles a third larger"]
    assert "environ" not in less["no --alloc-conf"]
    assert [left for *_, left in SCRIPT.with_less({"code": CODE, "settings": settings})][1]["tile"] == "512x512"
    (placed,) = SCRIPT.with_less({"code": CODE, "settings": {"offload": "model"}})
    assert placed[::2] == ("--offload none", {"offload": "none"})
    ((name, code, left),) = SCRIPT.with_less({"code": CODE, "settings": {"tiling": True}})
    assert (name, "tile" in code, left) == ("no tiling", False, {})


@pytest.mark.parametrize(
    ("calls", "less", "holds"),
    [
        ([[1, 2]] * 3, {"calls": ["CUDA out of memory"]}, True),
        ([[1, 2], "CUDA out of memory"], {"calls": ["CUDA out of memory"]}, False),
        ([[1, 2]] * 3, {"calls": [[1, 2]], "verdict": "fits"}, False),  # it would have done with less
        ([[1, 2]] * 3, {"calls": [[1, 2]], "verdict": "tight"}, True),
        ([[1, 2]] * 3, {"calls": [[1, 2]], "retries": 3}, True),
    ],
)
def test_an_answer_holds_if_it_runs_and_nothing_less_fits(calls: list[Any], less: Any, holds: bool) -> None:
    row = {"verdict": "fits", "ran": {"calls": calls, "retries": 0}, "less": {"--offload none": {"retries": 0} | less}}
    assert SCRIPT.holds(row) is holds


@pytest.mark.dry
def test_the_code_of_an_answer_runs_under_its_memory(tmp_path: Any) -> None:
    """The catalog's smallest pipeline, whose weights alone take 2.6 GiB."""
    code = CODE.replace("pipe.enable_group_offload(", "pipe.to('cuda') #").replace("384", "512").replace("48", "64")
    outcomes = []
    for capacity in (6 << 30, 2 << 30):
        way = {"model": "sd1.5", "size": {"height": 256, "width": 256}, "code": code, "capacity_bytes": capacity}
        (tmp_path / "way.json").write_text(json.dumps(way))
        done = dry("python", ROOT / "scripts" / "dry" / "run_code.py", tmp_path / "way.json", gpu="rtx-4090")
        assert done.returncode == 0, done.stderr
        outcomes.append(json.loads(done.stdout.splitlines()[-1]))
    assert [len(calls["calls"]) for calls in outcomes] == [3, 1]
    assert outcomes[0]["retries"] == 0
    assert "out of memory" in outcomes[1]["calls"][0]
