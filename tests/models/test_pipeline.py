"""Pipelines: the catalog's are built of real classes without data, and a folder gives what `from_pretrained` does."""

import inspect
import json
import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

import diffusers
import transformers

from profiler.data.stack import Stack
from profiler.errors import UserError
from profiler.models.build import TORCH_DTYPES, build
from profiler.models.catalog import catalog_model
from profiler.models.find import find_model
from profiler.models.pipeline import build_pipeline, call_arguments, part_class, set_guidance
from profiler.models.pipeline_folder import find_pipeline
from profiler.models.pipeline_spec import Part, PipelineSpec, catalog_pipeline, parts, pipeline_ids
from profiler.models.spec import Size
from profiler.models.tokenizer import Tokenizer, stand_in
from profiler.search.code import code_of
from profiler.search.question import GenerationQuestion
from profiler.search.setting import Setting

# An older diffusers has fewer.
IDS = [name for name in pipeline_ids() if hasattr(diffusers, catalog_pipeline(name).class_name)]
TIED = ("UMT5EncoderModel", "T5EncoderModel", "Gemma3ForConditionalGeneration")


def modules(pipeline: Any) -> dict[str, nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def described(module: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers()]
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors}


def shared(module: nn.Module) -> list[list[str]]:
    """The names of each tensor that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [found for found in names.values() if len(found) > 1]


@pytest.mark.parametrize("name", IDS)
def test_every_pipeline_is_built_without_data_and_has_the_published_parameters(name: str) -> None:
    spec = catalog_pipeline(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipeline = build_pipeline(spec)
    assert type(pipeline).__name__ == spec.class_name
    for component, module in modules(pipeline).items():
        part = spec.part(component)
        assert isinstance(part, Part)
        assert {p.device.type for _, p in module.named_parameters()} == {"meta"}
        count = sum(p.numel() for p in module.parameters())
        assert part.parameters in (None, count), f"{component}: {count:,}"
        assert not module.training
        assert [*shared(module)] or type(module).__name__ not in TIED
    # In KiB. A first build imports transformers' and diffusers' modules; the weights of the least one are gigabytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10
    assert {"components", "call"} <= spec.sources.keys()


@pytest.mark.parametrize("name", IDS)
def test_every_argument_of_a_call_is_one_of_the_pipeline(name: str) -> None:
    spec = catalog_pipeline(name)
    given = call_arguments(spec, steps=3)
    assert given["num_inference_steps"] == 3
    assert not given.keys() - set(diffusers_signature(spec))
    assert spec.default is not None


def diffusers_signature(spec: PipelineSpec) -> list[str]:
    return [*inspect.signature(getattr(diffusers, spec.class_name).__call__).parameters]


SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 300, "depth": 2,
    "out_hidden_size": 32, "projection_dim": 16, "image_size": 28, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
}  # fmt: skip


def small(config: dict[str, Any]) -> dict[str, Any]:
    """The config with few and narrow layers."""
    return {
        key: SMALL[key] if key in SMALL else small(value) if isinstance(value, dict) else value
        for key, value in config.items()
    }


ENCODERS = [name for name, part in parts().items() if isinstance(part, Part) and hasattr(transformers, part.class_name)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "clip-processor"])
def test_an_encoder_is_as_transformers_loads_it(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Shapes, dtypes, buffers and ties are those of the real `from_pretrained`, of a small one of the same class."""
    part = parts()[name]
    assert isinstance(part, Part)
    cls = part_class(part)
    config = small(part.config)
    cls(cls.config_class.from_dict(config)).save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path, dtype=dtype)
    built = build(cls, config, dtype)
    assert described(built) == described(loaded)
    assert shared(built) == shared(loaded)
    assert built.config._attn_implementation == loaded.config._attn_implementation


def test_what_is_asked_for_replaces_what_is_published() -> None:
    spec = catalog_pipeline("qwen-image")
    given = call_arguments(
        spec, size=Size(height=256, width=512), prompts=2, images_per_prompt=3, guidance=7.0, text_length=9
    )
    assert (given["height"], given["width"], given["true_cfg_scale"]) == (256, 512, 7.0)
    assert given["prompt"] == ["a a a a a a a a a"] * 2
    assert given["negative_prompt"] == [" "] * 2
    assert given["num_images_per_prompt"] == 3
    pictured = call_arguments(catalog_pipeline("sdxl-inpaint"), size=Size(height=256, width=512))
    assert pictured["image"].size == pictured["mask_image"].size == (512, 256)
    with pytest.raises(UserError, match="takes no prompt"):
        call_arguments(catalog_pipeline("svd-xt"), prompts=2)


@pytest.mark.skipif("hunyuan-video-1.5" not in IDS, reason="an older diffusers")
def test_guidance_of_a_guider_is_its_config() -> None:
    spec = catalog_pipeline("hunyuan-video-1.5")
    pipeline = build_pipeline(spec)
    set_guidance(spec, pipeline, 3.0)
    assert pipeline.guider.config.guidance_scale == 3.0


def test_another_dtype_leaves_the_components_that_have_their_own() -> None:
    pipeline = build_pipeline(catalog_pipeline("wan2.1-t2v-1.3b"), "fp16")
    assert pipeline.vae.dtype == torch.float32
    dtypes = {name.split(".")[-2]: p.dtype for name, p in pipeline.text_encoder.named_parameters()}
    assert dtypes["wo"] == torch.float32  # transformers keeps it, in fp16 and not in bf16
    assert dtypes["wi_0"] == torch.float16


@pytest.mark.parametrize("name", [name for name, part in parts().items() if isinstance(part, Tokenizer)])
def test_a_stand_in_pads_and_truncates_to_the_length(name: str) -> None:
    described_as = parts()[name]
    assert isinstance(described_as, Tokenizer)
    tokenizer = stand_in(described_as)
    extra = len(described_as.before) + len(described_as.after)
    for words in (3, 200):
        found = tokenizer(["a " * words] * 2, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        assert found.input_ids.shape == found.attention_mask.shape == (2, 77)
        assert int(found.attention_mask[0].sum()) == min(77, words + 1 + extra)  # the last space is a token too
    assert tokenizer("a cat", return_tensors="pt").input_ids.shape == (1, 2 + extra)
    assert tokenizer.tokenize("a cat, here") == ["word"] * 4
    assert len(tokenizer.batch_decode(tokenizer(["a cat"]).input_ids)) == 1
    chat = [{"role": "user", "content": [{"type": "text", "text": "a cat"}]}]
    ids = tokenizer.apply_chat_template(
        [chat],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        padding="max_length",
        truncation=True,
        max_length=64,
    )
    assert ids["input_ids"].shape == (1, 64)


def test_the_template_of_qwen_image_has_the_tokens_that_its_pipeline_drops() -> None:
    tokenizer = build_pipeline(catalog_pipeline("qwen-image")).tokenizer
    source = inspect.getsource(diffusers.QwenImagePipeline.__init__)
    text = source.split('prompt_template_encode = "')[1].split("{}")[0].encode().decode("unicode_escape")
    assert tokenizer(text, return_tensors="pt").input_ids.shape[1] == 34


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small FLUX-like pipeline as diffusers saves it, with weights."""
    folder = tmp_path_factory.mktemp("flux")
    clip = transformers.CLIPTextConfig(
        hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, projection_dim=32
    )
    t5 = transformers.T5Config(
        vocab_size=100, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    words, more_words = parts()["clip-tokenizer"], parts()["t5-tokenizer"]
    assert isinstance(words, Tokenizer) and isinstance(more_words, Tokenizer)
    diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0),
        vae=diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=1, latent_channels=1, shift_factor=0.1),
        text_encoder=transformers.CLIPTextModel(clip),
        tokenizer=stand_in(words),
        text_encoder_2=transformers.T5EncoderModel(t5),
        tokenizer_2=stand_in(more_words),
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
        ),
    ).save_pretrained(folder)  # fmt: skip
    yield folder


def loaded_from(folder: Path, dtype: str) -> Any:
    """As its users load it."""
    return diffusers.FluxPipeline.from_pretrained(folder, torch_dtype=TORCH_DTYPES[dtype], use_safetensors=True)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_folder_is_built_as_from_pretrained_leaves_it(saved: Path, dtype: Any) -> None:
    spec = find_pipeline(str(saved))
    assert (spec.class_name, spec.origin, spec.guidance) == ("FluxPipeline", str(saved), "guidance_scale")
    built, loaded = build_pipeline(spec, dtype), loaded_from(saved, dtype)
    assert built.components.keys() == loaded.components.keys()
    for name, module in modules(loaded).items():
        assert described(modules(built)[name]) == described(module), name
        assert shared(modules(built)[name]) == shared(module), name
    assert shared(built.text_encoder_2)
    assert built.scheduler.config.shift == loaded.scheduler.config.shift == 2.0
    assert built.tokenizer("a cat").input_ids == loaded.tokenizer("a cat").input_ids


def test_a_pipeline_runs_as_it_is_called(saved: Path) -> None:
    spec = find_pipeline(str(saved))
    given = call_arguments(spec, size=Size(height=16, width=32), steps=1, prompts=2)
    pictures = loaded_from(saved, "fp32")(**given).images
    assert [picture.size for picture in pictures] == [(32, 16)] * 2


def test_a_folder_without_vocabulary_and_weights_has_stand_ins(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flux"
    shutil.copytree(saved, folder, ignore=shutil.ignore_patterns("*.safetensors", "tokenizer*"))
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "T5Tokenizer"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    spec = find_pipeline(str(folder))
    assert build_pipeline(spec).tokenizer.model_max_length == 77
    index["tokenizer"] = ["transformers", "BertTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="files of its BertTokenizer are not there"):
        find_pipeline(str(folder))


def test_a_head_that_the_checkpoint_has_is_not_tied(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flux"
    shutil.copytree(saved, folder)
    before = find_pipeline(str(folder)).part("text_encoder")
    (folder / "text_encoder/model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "x"}}')
    after = find_pipeline(str(folder)).part("text_encoder")
    assert isinstance(before, Part) and isinstance(after, Part)
    assert "tie_word_embeddings" not in before.config or before.config["tie_word_embeddings"]
    assert after.config["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "no model_index.json"),
        ({}, "`_class_name` must name a class"),
        ({"_class_name": "FluxPipeline", "vae": ["diffusers"]}, r"'vae' must be \[\"library\", \"class\"\]"),
        ({"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}, "no vae/config.json"),
        ({"_class_name": "NoSuchPipeline"}, "has no pipeline 'NoSuchPipeline'"),
    ],
)
def test_a_folder_that_is_no_pipeline_says_why(tmp_path: Path, index: Any, message: str) -> None:
    if index is not None:
        (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        build_pipeline(find_pipeline(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sd_xl_base_1.0.safetensors", "from_single_file"),
        ("flux1-dev-Q4_K.gguf", "from_single_file"),
        ("allegro", "its pipeline is not described: pipelines are animatediff-sd1.5"),
        ("no-such-thing", "no such pipeline: pipelines are"),
        ("svd", r"no such pipeline: did you mean 'svd-xt'\? pipelines are"),
        ("flux1-dev", "did you mean 'flux.1-dev' or"),
    ],
)
def test_what_is_no_pipeline_says_what_to_give(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_pipeline(name)


@pytest.mark.parametrize(("gated", "message"), [(True, "accept its terms"), (False, "cannot be reached")])
def test_a_hub_that_gives_nothing_says_what_to_do(monkeypatch: pytest.MonkeyPatch, gated: bool, message: str) -> None:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    class Gated(GatedRepoError):
        def __init__(self) -> None:
            Exception.__init__(self, "403")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise Gated() if gated else LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    for find in (find_pipeline, find_model):
        with pytest.raises(UserError, match=message) as told:
            find("black-forest-labs/FLUX.1-dev")
        assert "or give the catalog's flux.1-dev, which needs no hub" in str(told.value)


def test_a_single_file_is_no_model_either() -> None:
    with pytest.raises(UserError, match="a single file holds weights, not what"):
        find_model("sd_xl_base_1.0.safetensors")


def test_the_order_of_components_is_part_of_a_description() -> None:
    """They are loaded in that order, by which the segments of their weights lie."""
    spec = catalog_pipeline("sd1.5")
    assert replace(spec, components=dict(reversed(spec.components.items()))).digest != spec.digest
    model = catalog_model("sd1.5")
    assert model.denoiser is not None
    turned = replace(model.denoiser, inputs=dict(reversed(model.denoiser.inputs.items())))
    assert replace(model, denoiser=turned).digest != model.digest


def test_a_class_that_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match="no class 'NoSuchModel' in diffusers, transformers"):
        part_class(Part(class_name="NoSuchModel"))


def test_a_class_that_transformers_renamed_is_found_as_diffusers_finds_it() -> None:
    """Many a fine-tuned Stable Diffusion 1.5 names it in its model_index.json."""
    named = Part(class_name="CLIPFeatureExtractor", library="transformers")
    assert part_class(named) is transformers.CLIPImageProcessor


def test_without_transformers_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler.models.pipeline.find_spec", lambda name: None)
    with pytest.raises(UserError, match="FluxPipeline needs transformers"):
        build_pipeline(catalog_pipeline("flux.1-dev"))


@pytest.mark.parametrize(
    ("class_name", "size"),
    [
        ("WanPipeline", (81, 480, 832)),
        ("LTXPipeline", (161, 512, 704)),
        ("StableDiffusionXLPipeline", (1, 1024, 1024)),
    ],
)
def test_a_folder_has_the_size_that_its_class_makes_unasked(
    tmp_path: Path, class_name: str, size: tuple[int, int, int]
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    frames, height, width = size
    assert find_pipeline(str(tmp_path)).default == Size(frames=frames, height=height, width=width)


def test_a_folder_of_an_unknown_pipeline_has_the_size_of_its_models(tmp_path: Path) -> None:
    """Allegro's call names no size, and the catalog has its VAE and its denoiser, but not its pipeline."""
    index: dict[str, Any] = {"_class_name": "AllegroPipeline"}
    for part, kind in (("transformer", "AllegroTransformer3DModel"), ("vae", "AutoencoderKLAllegro")):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps({"_class_name": kind}))
        index[part] = ["diffusers", kind]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert find_pipeline(str(tmp_path)).default == Size(frames=88, height=720, width=1280)


def test_a_folder_has_the_size_of_its_denoiser(tmp_path: Path) -> None:
    kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    unet = {"sample_size": 32, "cross_attention_dim": 32, "block_out_channels": [32, 64, 64, 64]}
    vae = {"block_out_channels": [4, 4], "norm_num_groups": 1, "down_block_types": ["DownEncoderBlock2D"] * 2}
    configs = {"unet": unet, "vae": vae | {"up_block_types": ["UpDecoderBlock2D"] * 2}}
    for part, config in configs.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps({"_class_name": kinds[part]} | config))
    index = {"_class_name": "StableDiffusionPipeline"} | {part: ["diffusers", kind] for part, kind in kinds.items()}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    spec = find_pipeline(str(tmp_path))
    assert spec.default == Size(height=64, width=64)  # 32 positions of the latents, two pixels each
    question = GenerationQuestion(spec=spec, stack=Stack(device="cuda", torch="2.13.0"), sizes={"height": 128})
    assert question.size == {"frames": 1, "height": 128, "width": 64}
    assert question.vae_alone and question.vae_alone.size == question.size
    assert "height=128, width=64" in code_of(question, Setting())
