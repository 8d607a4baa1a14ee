"""An estimate is the same in every process, whatever the order in which a set of texts is gone through there."""

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("transformers")  # text encoders

KINDS = ("full_attention", "sliding_attention")
SEEDS = ("0", "1")


def encoder() -> Any:
    """A small Gemma 3, LTX-2's text encoder: two kinds of layers, each with a mask and a position table."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
    }
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16,
            "num_key_value_heads": 1, "vocab_size": 64, "layer_types": [*KINDS], "sliding_window": 8}  # fmt: skip
    with torch.device("meta"):
        return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision | {"patch_size": 16}))


def tell() -> None:
    """Print how this process goes through a plain set, and what the trace of a pipeline with that encoder comes to."""
    import diffusers
    import torch

    from profiler.data.workload import Placement
    from profiler.estimation.placed import estimate_with_events
    from profiler.machine.cards import assumed_stack, find_gpu
    from profiler.stages.generation import Generation

    class Pipeline(diffusers.DiffusionPipeline):  # type: ignore[misc]
        def __init__(self, text_encoder: Any) -> None:
            self.register_modules(text_encoder=text_encoder)

        def __call__(self) -> Any:
            ids = torch.ones(1, 16, dtype=torch.long, device="cuda")
            return self.text_encoder(ids, attention_mask=torch.ones_like(ids)).logits

    pipe, stack = Pipeline(encoder()), assumed_stack(find_gpu("rtx-4090"), "2.13.0", None, {})
    trace = estimate_with_events(Generation(pipe, pipe, [], Placement()), stack)[1]
    story = repr([[block.bytes for block in trace.blocks], list(trace.events)])
    print(json.dumps([[*set(KINDS)], hashlib.sha256(story.encode()).hexdigest(), set.__name__]))  # noqa: T201


def test_the_order_of_a_set_decides_nothing() -> None:
    command = [sys.executable, "-c", "from tests.estimation.test_hash_seed import tell; tell()"]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONHASHSEED": seed})
        for seed in SEEDS
    ]
    orders, stories, names = zip(*(json.loads(run.communicate()[0]) for run in runs), strict=True)
    assert orders[0] == orders[1][::-1]
    assert stories[0] == stories[1]
    assert names == ("set", "set")
