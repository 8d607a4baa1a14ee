"""A LoRA is found, loaded by diffusers' and peft's own code, and told; what is none is an error that says what to do."""

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")  # text encoders

import torch
from safetensors.torch import save_file

from profiler.errors import UserError
from profiler.models import lora
from profiler.models.lora import find_lora, load_lora
from profiler.stages.generation import quiet
from tests.pipelines import PIPELINES, save_lora


def loaded(asked: Any, name: str = "flux") -> tuple[Any, str]:
    """The small pipeline with a LoRA, and what was said of it."""
    pipe, _ = PIPELINES[name]()
    with quiet():
        return pipe, load_lora(pipe, asked)


def weights(module: Any) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in module.named_parameters() if ".lora_" in name}


def test_a_rank_is_a_number_and_anything_else_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_lora_weights.safetensors"
    for one in (file, tmp_path / "older.safetensors"):
        one.touch()
    assert (find_lora(16), find_lora("16")) == (16, 16)
    assert find_lora(str(file)) == find_lora(tmp_path) == file
    file.unlink()
    assert find_lora(tmp_path).name == "older.safetensors"  # type: ignore[union-attr]


def test_what_is_neither_says_what_would_be(tmp_path: Path) -> None:
    for rank in (0, "-4"):
        with pytest.raises(UserError, match=f"lora: a rank is 1 or more, got {rank}"):
            find_lora(rank)
    for name in ("owner/name", "a" * 5000, "a\0b"):
        with pytest.raises(UserError, match=r"lora: no file or folder .* a rank, as 16; `hf download"):
            find_lora(name)
    with pytest.raises(UserError, match=r"must have one safetensors file, .* it has none: name the file"):
        find_lora(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").touch()
    with pytest.raises(UserError, match=r"it has a.safetensors, b.safetensors: name the file"):
        find_lora(tmp_path)


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora, "find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=re.escape('needs peft, which is not installed: pip install "latentmeter[lora]"')
    ):
        loaded(16)


def test_a_rank_adapts_what_the_training_script_does() -> None:
    pytest.importorskip("peft")
    pipe, said = loaded(4)
    layers = {name.partition(".lora_")[0] for name in weights(pipe.transformer)}
    double, single = 12, 3  # layers of a block: both streams' attention and feed-forwards, and one stream's q, k, v
    assert len(layers) == 2 * double + 2 * single
    assert {weight.dtype for weight in weights(pipe.transformer).values()} == {torch.bfloat16}  # the base's, by peft
    assert all(weight.is_meta for weight in weights(pipe.transformer).values())
    count = sum(weight.numel() for weight in weights(pipe.transformer).values())
    assert said.startswith("rank 4 on attn.to_q, attn.to_k, ")
    assert said.endswith(
        f": {count:,} parameters, {count * 2 / 1024:.1f} KiB, among the weights of transformer; not fused"
    )
    assert (
        len(weights(loaded("4", "wan")[0].transformer)) == 2 * 2 * 8
    )  # both attentions of two blocks, four layers each


def test_a_file_goes_where_its_keys_say_in_the_dtype_of_what_stands_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    save_lora(tmp_path / "mine.safetensors")
    capfd.readouterr()
    pipe, said = loaded(tmp_path)
    assert capfd.readouterr() == ("", "")
    adapters = [*weights(pipe.transformer).values(), *weights(pipe.text_encoder).values()]
    assert {(weight.dtype, weight.is_meta) for weight in adapters} == {(torch.bfloat16, True)}
    assert said == (
        f"mine.safetensors, {(tmp_path / 'mine.safetensors').stat().st_size / 1024:.1f} KiB read from the disk: 21,504 "
        "parameters, 42.0 KiB, among the weights of text_encoder and transformer; not fused"
    )


def test_several_are_active_at_once_each_in_the_dtype_of_what_stands_there(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    save_lora(tmp_path / "mine.safetensors")
    pipe, said = loaded((tmp_path, 4, "8"))
    adapters = weights(pipe.transformer)
    assert {(weight.dtype, weight.is_meta) for weight in adapters.values()} == {(torch.bfloat16, True)}
    layer = pipe.transformer.transformer_blocks[0].attn.to_q
    assert isinstance(layer, peft.tuners.tuners_utils.BaseTunerLayer)
    assert layer.active_adapters == ["lora_0", "lora_1", "lora_2"]
    assert [layer.r[name] for name in layer.active_adapters] == [8, 4, 8]
    assert said.count("not fused") == 3
    assert said.count("among the weights of transformer;") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "was it made for FluxPipeline\\? Error while deserializing header"),
        ({"conv.weight": (2, 2)}, "was it made for FluxPipeline\\? Invalid LoRA checkpoint"),
        ({"text_encoder_9.q.lora_A.weight": (4, 64)}, "has nothing for FluxPipeline: none of its keys names a layer"),
        (
            {f"transformer.transformer_blocks.0.attn.to_q.lora_{side}.weight": (9, 9) for side in "AB"},
            "was it made for FluxPipeline\\? .* size mismatch for transformer_blocks.0.attn.to_q",
        ),
    ],
)
def test_a_file_that_is_no_lora_of_this_pipeline_is_an_error(content: Any, message: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    file = tmp_path / "x.safetensors"
    if content is None:
        file.write_bytes(b"junk")
    else:
        save_file({key: torch.zeros(shape) for key, shape in content.items()}, file)
    with pytest.raises(UserError, match=f"lora: {file} .*{message}"):
        loaded(file)


def test_what_takes_none_is_an_error() -> None:
    pytest.importorskip("peft")
    pipe, _ = PIPELINES["flux"]()
    with pytest.raises(UserError, match="SimpleNamespace has no load_lora_weights; leave it out"):
        load_lora(type("SimpleNamespace", (), {"components": pipe.components})(), 16)
    pipe.register_modules(transformer=torch.nn.Sequential())
    with pytest.raises(
        UserError, match=r"Sequential has no layer to_q or to_k or to_v or to_out.0; a LoRA's file says"
    ):
        load_lora(pipe, 16)
