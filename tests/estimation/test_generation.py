"""Whole generations, against what torch's CUDA build allocates for the same objects under the same calls."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")  # text encoders

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as sdpa

import profiler
from profiler.data.stack import DRY
from profiler.data.workload import MemoryOptions, Placement
from profiler.errors import ModelError, UserError
from profiler.estimation.calls import ask_generation
from profiler.estimation.placed import estimate_generation
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.machine.target import target_stack
from profiler.models.lora import load_lora
from profiler.models.pipeline import call_arguments
from profiler.models.pipeline_spec import catalog_pipeline
from profiler.models.spec import Size
from profiler.stages.generation_options import check_sizes, default_backend
from profiler.stages.generation_ready import made_ready
from tests.pipelines import PIPELINES, note_traces, save_lora, small_sd15

# Dry CUDA, torch 2.13.0+cu130, rtx-4090, diffusers 0.42.1, transformers 5.24.0: the highest allocated and reserved bytes of
# the load, of a first and of a second call, and the pinned bytes at the end: weights, and the numbers that code reads.
TRUTH: dict[tuple[str, str], tuple[int, int, int, int, int, int, int]] = {
    ("wan", "none"): (13588992, 14680064, 59421696, 90177536, 59421696, 90177536, 5),
    ("wan", "model"): (0, 0, 58743808, 90177536, 58743808, 90177536, 5),
    ("wan", "sequential"): (131072, 2097152, 46074880, 75497472, 46074880, 75497472, 5),
    ("wan", "group-leaf"): (0, 0, 45943808, 75497472, 45943808, 77594624, 5),
    ("wan", "group-leaf stream"): (0, 0, 45943808, 83886080, 45943808, 83886080, 16326485),
    ("wan", "group-block stream"): (0, 0, 48243200, 83886080, 48243200, 83886080, 11054725),
    ("flux", "none"): (2852864, 4194304, 24623616, 50331648, 24624640, 50331648, 0),
    ("flux", "model"): (0, 0, 22003200, 46137344, 22004224, 46137344, 0),
    ("flux", "sequential"): (1024, 2097152, 21771776, 46137344, 21772800, 46137344, 0),
    ("flux", "group-leaf"): (0, 0, 21770752, 46137344, 21771776, 46137344, 0),
    ("flux", "group-leaf stream"): (0, 0, 21770752, 54525952, 21772288, 54525952, 3915144),
    ("flux", "group-block stream"): (0, 0, 22003200, 50331648, 22004224, 50331648, 2105344),
    ("cogvideox", "none"): (6232064, 6291456, 70841856, 85983232, 70841856, 85983232, 9),
    ("cogvideox", "model"): (0, 0, 70252032, 83886080, 70252032, 83886080, 9),
    ("cogvideox", "sequential"): (0, 0, 64609792, 77594624, 64609792, 77594624, 9),
    ("cogvideox", "group-leaf stream"): (0, 0, 64609792, 85983232, 64609792, 85983232, 7367953),
}


def estimated(name: str, how: str = "none", lora: Any = None, **changes: Any) -> Any:
    pipe, call = PIPELINES[name]()
    if lora is not None:
        load_lora(pipe, lora)
    offload, *switches = how.split()
    placement = Placement(offload=offload, **dict.fromkeys(switches, True))  # type: ignore[arg-type]
    stack = assumed_stack(find_gpu("rtx-4090"), "2.13.0", None, {DRY: "1"})
    return profiler.estimate_call(pipe, inputs=call | changes, placement=placement, stack=stack)


@pytest.mark.parametrize(("name", "how"), TRUTH)
def test_each_placement_takes_what_torch_takes_of_it(name: str, how: str) -> None:
    found = estimated(name, how)
    assert (*peaks_of(found), found.host.pinned) == TRUTH[name, how]


def peaks_of(found: Any) -> list[int]:
    """The highest allocated and reserved bytes of the load, of a first and of a second call."""
    peaks = []
    for call in (0, 1, 2):
        levels = [phase.peak for phase in found.phases if phase.call == call]
        peaks += [max((level.allocated_bytes for level in levels), default=0)]
        peaks += [max((level.reserved_bytes for level in levels), default=0)]
    return peaks


# As TRUTH, of the small FLUX with the LoRA of `save_lora`, loaded by `load_lora_weights` before it is placed (peft 0.21.2).
TRUTH_LORA = {
    "none": (2895872, 4194304, 24666624, 50331648, 24667648, 50331648, 0),
    "model": (0, 0, 22003200, 46137344, 22004224, 46137344, 0),
    "sequential": (1024, 2097152, 21771776, 46137344, 21772800, 46137344, 0),
    "group-leaf stream": (0, 0, 21770752, 54525952, 21772288, 54525952, 3958152),
    "group-block stream": (0, 0, 22003200, 50331648, 22004224, 50331648, 2144256),
}


@pytest.mark.parametrize("how", TRUTH_LORA)
def test_a_lora_takes_what_torch_takes_of_it(how: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    save_lora(tmp_path / "lora.safetensors")
    found = estimated("flux", how, tmp_path)
    assert (*peaks_of(found), found.host.pinned) == TRUTH_LORA[how]
    if how == "none":  # where its layers run; without it 14315520 and 14381056
        steps = [phase.peak.allocated_bytes for phase in found.phases if phase.name in ("first step", "later steps")]
        assert steps == [14358528, 14424064] * 2


# As TRUTH_LORA, with a second file beside the first, both active by `set_adapters`.
TRUTH_TWO_LORAS = {
    "none": (2940928, 4194304, 24711680, 50331648, 24712704, 50331648, 0),
    "model": (0, 0, 22003200, 46137344, 22004224, 46137344, 0),
    "sequential": (1024, 2097152, 21771776, 46137344, 21772800, 46137344, 0),
}


@pytest.mark.parametrize("how", TRUTH_TWO_LORAS)
def test_two_loras_take_what_torch_takes_of_both(how: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    files = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    save_lora(files[0])
    save_lora(files[1], {"transformer": (16, ("to_q", "to_out.0", "ff.net.2"))})
    found = estimated("flux", how, files)
    assert (*peaks_of(found), found.host.pinned) == TRUTH_TWO_LORAS[how]


def test_an_answer_is_that_of_its_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    plain = generated()

    def estimate(*_: Any, lora: Any = None, **__: Any) -> Any:
        asked.append(lora)
        return plain

    monkeypatch.setattr("profiler.estimation.placed.estimate_generation", estimate)
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "lora.safetensors"
    for content in (b"one", b"another one"):
        file.write_bytes(content)
        for lora in (None, 16, "16", 32, file, str(file), tmp_path, (16, file), [16, file]):
            stack = target_stack("rtx-4090", "2.13.0", None)[0]
            ask_generation(
                described(), stack, None, Placement(), MemoryOptions(), {} if lora is None else {"lora": lora}
            )
    assert asked == [None, 16, 32, file, (16, file), file, (16, file)]


def test_phases_say_what_stands_on_the_card_when() -> None:
    found = estimated("wan", "model")
    assert [(phase.name, [*phase.weights]) for phase in found.phases if phase.call == 1] == [
        ("text encode", ["text_encoder"]),
        ("first step", ["transformer"]),
        ("later steps", ["transformer"]),
        ("decode", ["vae"]),
        ("post-process", ["vae"]),
    ]
    for phase in found.phases:
        assert sum(phase.weights.values()) + phase.live + phase.activations == phase.peak.allocated_bytes
    assert found.peak == max((phase.peak for phase in found.phases), key=lambda peak: peak.allocated_bytes)
    assert found.warm == found.peak


@pytest.mark.parametrize("how", ["none", "model"])
def test_inputs_on_the_card_are_no_part_of_the_load(how: str) -> None:
    latents = torch.empty(1, 512, 64, dtype=torch.bfloat16, device="meta")
    assert peaks_of(estimated("flux", how, latents=latents))[:2] == [*TRUTH["flux", how][:2]]


def test_autocast_of_a_calls_own_casts_what_it_casts_on_a_card() -> None:
    """As TRUTH, of the small FLUX with an fp32 transformer and VAE. Switched off within, it casts nothing."""
    pipe, call = PIPELINES["flux"]()
    pipe.transformer.float(), pipe.vae.float()
    stack = assumed_stack(find_gpu("rtx-4090"), "2.13.0", None, {DRY: "1"})

    def found(within: bool) -> Any:
        def called(**given: Any) -> Any:
            with torch.autocast("cuda", torch.float16), torch.autocast("cuda", torch.float16, enabled=within):
                return pipe(**given)

        return profiler.estimate_call(called, modules=pipe, inputs=call, placement=Placement(), stack=stack)

    assert peaks_of(found(True)) == [5182464, 6291456, 26953216, 54525952, 26954240, 54525952]
    with pytest.raises(ModelError, match="takes tensors of one dtype, got float32 and bfloat16"):
        found(False)


def test_what_is_compiled_is_estimated_as_it_runs_uncompiled_and_the_answer_says_so() -> None:
    pipe, call = PIPELINES["flux"]()
    plain = profiler.estimate_call(pipe, inputs=call, gpu="rtx-4090")
    assert "compile" not in plain.notes
    pipe.transformer.transformer_blocks[0].compile()
    in_place = profiler.estimate_call(pipe, inputs=call, gpu="rtx-4090")
    pipe.transformer = torch.compile(pipe.transformer, fullgraph=True)
    for found in (in_place, profiler.estimate_call(pipe, inputs=call, gpu="rtx-4090")):
        assert found.notes["compile"].startswith("torch.compile is not covered")
        assert peaks_of(found) == peaks_of(plain)
    function = torch.compile(lambda x: x @ x)
    product = profiler.estimate_call(function, modules=pipe.vae, inputs=[torch.empty(8, 8)], gpu="rtx-4090")
    assert "compile" in product.notes


def test_a_call_may_show_its_tensors() -> None:
    shown = []

    def show(pipe: Any, step: int, time: Any, kept: dict[str, Any]) -> dict[str, Any]:
        shown.append(f"{kept['latents']} {torch.ones(2)}")
        return kept

    estimated("flux", callback_on_step_end=show)
    assert {*shown} == {"tensor(..., device='cuda:0', size=(1, 512, 64), dtype=torch.bfloat16) tensor([1., 1.])"}


def test_a_notebook_and_a_prompt_show_the_phases() -> None:
    found = estimated("wan", "model")
    assert repr(found).endswith("56.0 MiB allocated at the peak, in decode>")
    html = found._repr_html_()
    assert "<th>on the card</th>" in html
    assert html.count("<tr>") == 7  # heads, a phase each, and the text again: beside what the first call left
    assert "<th>later steps</th><td>transformer 434.5 KiB</td>" in html


def test_hidden_states_are_collected_whenever_they_are_asked_for() -> None:
    """By hooks of transformers on each layer. Stable Diffusion 3 asks for them of a prompt, then of a negative one."""
    pipe, _ = PIPELINES["flux"]()
    found: list[int] = []

    def encode_two() -> None:
        for _ in range(2):
            ids = torch.ones(1, 77, dtype=torch.long, device="cuda")
            found.append(len(pipe.text_encoder(ids, output_hidden_states=True).hidden_states))

    profiler.estimate_call(encode_two, modules=pipe, gpu="rtx-4090", torch="2.13.0")
    assert found == [3] * 4


def test_what_transformers_keeps_of_a_checkpoint_is_no_part_of_a_call() -> None:
    """`from_pretrained` leaves on a model what it renamed in the checkpoint, in objects that have no attributes to read."""
    loading = pytest.importorskip("transformers.core_model_loading")
    pipe, call = PIPELINES["flux"]()
    renamed = [loading.WeightRenaming("a", "b")]
    pipe.text_encoder._weight_conversions = renamed
    assert profiler.estimate_call(pipe, inputs=call, gpu="rtx-4090", torch="2.13.0").phases
    assert pipe.text_encoder._weight_conversions == renamed


def test_two_steps_peak_as_four_do() -> None:
    few, many = (estimated("wan", num_inference_steps=steps) for steps in (2, 4))
    assert [(phase.name, phase.peak) for phase in few.phases] == [(phase.name, phase.peak) for phase in many.phases]


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe, call = PIPELINES["flux"]()
    weights = dict(pipe.transformer.named_parameters())
    own = pipe.transformer.register_forward_hook(lambda *_: None)

    def called(**call: Any) -> Any:
        # As transformers at a text encoder's first call. It notes that it did; done twice, hidden states come twice.
        pipe.transformer.register_forward_hook(lambda *_: None)
        return pipe(**call)

    how: Any = {"placement": Placement(offload="sequential"), "gpu": "t4"}
    profiler.estimate_call(called, inputs=call, modules=pipe, **how)
    assert len(pipe.transformer._forward_hooks) == 1
    own.remove()
    assert not pipe.transformer._forward_hooks
    assert all(value is weights[name] for name, value in pipe.transformer.named_parameters())
    assert not any(hasattr(module, "_hf_hook") for module in pipe.transformer.modules())
    assert torch.zeros(1).device == torch.device("cpu")
    assert not torch.cuda.is_available()


def test_a_weight_that_stays_behind_is_an_error_as_on_a_card() -> None:
    said = (
        "fails on a card too: .* expected all tensors to be on the same device.*; offload group-leaf, model, sequential"
    )
    with pytest.raises(ModelError, match=said):
        estimated("cogvideox", "group-block stream")


@pytest.mark.parametrize(
    ("offload", "use", "said"),
    [
        (
            "none",
            lambda w: w @ torch.ones(64, dtype=w.dtype),
            "host and is not brought: one of device `meta` is made on",
        ),
        (
            "none",
            lambda w: sdpa(w[None], w[None], w[None], torch.ones(1, len(w), len(w), dtype=torch.bool)),
            "host and is not brought: one of device `meta` is made on",
        ),
        (
            "sequential",
            lambda w: w @ torch.ones_like(w, device="cuda").mT,
            "sequential brings weights for the forward of",
        ),
        (
            "sequential",
            lambda w: w.to("cuda"),
            "sequential brings weights for the forward of a layer, .*; offload model",
        ),
    ],
)
def test_what_stays_behind_is_named(offload: str, use: Any, said: str) -> None:
    """As Hunyuan-DiT's pooler, which multiplies by the weights of its layers itself, and Cosmos 2, which copies some."""
    pipe, call = PIPELINES["flux"]()

    def called(**given: Any) -> Any:
        use(pipe.text_encoder_2.shared.weight)
        return pipe(**given)

    placement = Placement(offload=offload)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=f"on a card too: .*{said}"):
        profiler.estimate_call(called, modules=pipe, inputs=call, placement=placement, gpu="rtx-4090", torch="2.13.0")


@pytest.mark.parametrize("offload", ["none", "model", "sequential", "group-leaf", "group-leaf stream"])
def test_weights_that_a_pipeline_casts_are_streamed_as_they_were(offload: str) -> None:
    """As SDXL's and SVD's VAE, which is fp32 while it works: in dry CUDA (torch 2.13.0) these two fail with a stream too."""
    pipe, call = PIPELINES["wan"]()
    pipe.vae.to(torch.bfloat16)

    def cast(**given: Any) -> Any:
        pipe.vae.to(torch.float32)
        return pipe(**given)

    where, *stream = offload.split()
    how = {"modules": pipe, "inputs": call, "gpu": "rtx-4090", "torch": "2.13.0"}
    placement = Placement(offload=where, stream=bool(stream))  # type: ignore[arg-type]
    if not stream:
        assert profiler.estimate_call(cast, placement=placement, **how).host is not None
        return
    with pytest.raises(
        ModelError, match=r"on a card too: .*the pipeline casts vae, .*; offload group-leaf without stream, model, seq"
    ):
        profiler.estimate_call(cast, placement=placement, **how)


def described(**changes: Any) -> Any:
    """A small pipeline of the catalog's kind, with a safety checker, as a folder's would be."""
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 32,
    }
    return replace(small_sd15(None, {"safety_checker": {"vision_config": vision}}), **changes)


def generated(options: MemoryOptions = MemoryOptions(), **call: Any) -> Any:  # noqa: B008
    stack = target_stack("rtx-4090", "2.13.0", None)[0]
    size = {"height": 128, "width": 128, "steps": 2}
    placement = Placement(offload="model")
    return estimate_generation(described(), stack, placement=placement, options=options, **size | call)


def test_a_safety_checker_finds_nothing_and_stays_on_the_card(capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []
    found = generated(tell=heard.append)
    assert found.notes["safety_checker"].startswith("taken to find nothing")
    assert found.notes["pixels"] == "1x128x128 (frames, height, width)"
    assert found.notes["thresholds"] == "a number of the checkpoint is taken as 0; first in safety_checker"
    assert all("safety_checker" in phase.weights for phase in found.phases)


@pytest.mark.parametrize("waits", [False, True])
def test_a_stream_that_is_waited_for_is_told(waits: bool) -> None:
    """SD 1.5 on an H200 took one segment of 2 MiB more in its second call than in its first."""
    stack, placement = (
        target_stack("h200", None, None)[0],
        Placement(offload="group-leaf", stream=True, record_stream=waits),
    )
    size = {"height": 128, "width": 128, "steps": 2}
    found = estimate_generation(described(), stack, placement=placement, options=MemoryOptions(), **size)
    assert ("from run to run" in found.notes.get("record-stream", "")) == waits


def test_memory_options_go_to_the_component_that_takes_them() -> None:
    options = MemoryOptions(tiling=True, tile=(64, 64), slicing=True, channels_last=True, attention="math")
    found = generated(options, prompts=2)
    assert found.options["tile"].detail == "tiles of 64x64 px"
    assert {name: option.applied for name, option in found.options.items()} == dict.fromkeys(
        ["tile", "tiling", "slicing", "channels_last", "attention"], True
    )
    assert {name for name in found.routes if name.startswith("attention")} == {"attention math"}
    decode = [phase.peak.allocated_bytes for phase in found.phases if phase.name == "decode"]
    plain = [phase.peak.allocated_bytes for phase in generated(prompts=2).phases if phase.name == "decode"]
    assert decode < plain


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        (
            MemoryOptions(framewise=True),
            {},
            "no framewise switch; leave it out. AutoencoderKL takes tiling and slicing",
        ),
        (MemoryOptions(attention_backend="native"), {}, "nothing in StableDiffusionPipeline calls attention through"),
        (MemoryOptions(autocast="bf16"), {}, "autocast: goes with a single stage; a whole generation takes tiling"),
        (MemoryOptions(), {"decode_chunk": 4}, "StableDiffusionPipeline has no decode_chunk_size"),
    ],
)
def test_an_option_that_cannot_be_applied_says_what_can(options: Any, call: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        generated(options, **call)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "flux.1-dev",
            {"height": 1001},
            "height: 1001 is not a multiple of 16, as FluxPipeline needs; nearest: 992 or",
        ),
        (
            "wan2.1-t2v-14b",
            {"frames": 80},
            "frames: 80 is not of the form 4k.1, as WanPipeline needs; nearest: 77 or 81",
        ),
        ("hunyuan-video", {"frames": 80}, "as HunyuanVideoPipeline needs; nearest: 77 or 81"),  # rounds without a word
        ("sdxl", {"frames": 5}, "frames: this is an image model"),  # has no argument of that name
        (
            "sdxl",
            {"width": 1084},
            "width: 1084 is not a multiple of 8, as StableDiffusionXLPipeline needs; nearest: 1080",
        ),
    ],
)
def test_a_size_that_a_pipeline_would_round_is_refused(name: str, size: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made_ready(catalog_pipeline(name), MemoryOptions(), **size)


def test_sides_that_the_halvings_of_a_unet_do_not_divide_are_taken() -> None:
    check_sizes(catalog_pipeline("sdxl"), Size(height=1080, width=1920))


def test_what_an_own_pipeline_says_of_a_size_is_noted() -> None:
    found = estimated("wan", num_frames=10)
    assert found.notes["size"].startswith("WanPipeline says: `num_frames - 1` has to be divisible by 4. Rounding to")
    assert "size" not in estimated("wan").notes
    assert logging.getLogger("diffusers").handlers != []


def test_the_environments_attention_backend_is_checked_and_said_for_the_components_that_heed_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = estimated("wan").routes
    monkeypatch.setenv("DIFFUSERS_ATTN_BACKEND", "sage")
    found = estimated("wan")
    assert found.notes["stack.attention_backend"] == "DIFFUSERS_ATTN_BACKEND makes sage the default"
    assert (found.routes["attention sage"], "attention sage" in asked) == (32, False)
    assert "stack.attention_backend" not in generated().notes  # nothing there calls attention through diffusers
    with pytest.raises(UserError, match="DIFFUSERS_ATTN_BACKEND=sage: attention: sage decides the kernel itself"):
        made = PIPELINES["wan"]()[0]
        default_backend(made, MemoryOptions(attention="math"))
    monkeypatch.setenv("DIFFUSERS_ATTN_BACKEND", "flex")
    with pytest.raises(
        UserError, match="DIFFUSERS_ATTN_BACKEND=flex: attention_backend: 'flex' is not modelled; one of"
    ):
        estimated("wan")
    pipe, call = PIPELINES["wan"]()
    pipe.transformer.set_attention_backend("native")
    assert profiler.estimate_call(pipe, inputs=call, gpu="rtx-4090", torch="2.13.0").routes == asked


def test_frames_are_decoded_in_the_chunks_asked_for() -> None:
    assert call_arguments(catalog_pipeline("svd-xt"), decode_chunk=4)["decode_chunk_size"] == 4


def test_a_stage_of_a_generation_is_one_that_there_is() -> None:
    with pytest.raises(UserError, match="no stage 'patch-embed' of a generation; one of generate, text-encode, encode"):
        profiler.generate("sd1.5", "patch-embed")
    with pytest.raises(UserError, match="stepz: a generation has nothing of this name; it has frames, height"):
        profiler.generate("sd1.5", stepz=3)


def test_a_weight_that_a_pipeline_casts_stays_a_weight() -> None:
    """As SVD's, which takes its VAE to fp32 and back around the encoding of the picture."""
    pipe, call = PIPELINES["wan"]()

    def cast_between(**given: Any) -> Any:
        pipe(**given)
        pipe.vae.to(torch.float16)
        return pipe(**given)

    found = profiler.estimate_call(cast_between, modules=pipe, inputs=call, gpu="rtx-4090", torch="2.13.0")
    before, after = (next(p.weights["vae"] for p in found.phases if p.call == call) for call in (0, 2))
    assert after < 0.6 * before


def test_a_placement_needs_a_pipeline() -> None:
    with pytest.raises(UserError, match="placement: goes with a pipeline"):
        profiler.estimate_call(torch.nn.Linear(2, 2), inputs=[torch.empty(1, 2)], placement=Placement(offload="model"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"offload": "leaf"}, "offload: no placement 'leaf'; one of none, model"),
        ({"offload": "model", "stream": True}, "stream: model offload uses none"),
        ({"offload": "group-leaf", "record_stream": True}, "record_stream: changes nothing without stream"),
    ],
)
def test_a_placement_that_cannot_be_says_why(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Placement(**asked)


def test_a_number_of_the_checkpoint_is_taken_as_zero_and_said() -> None:
    found = profiler.estimate_call(Picky(), inputs=[], gpu="rtx-4090", torch="2.13.0")
    assert found.notes["thresholds"] == "a number of the checkpoint is taken as 0; first in safety_checker"
    assert found.host is not None
    assert found.host.pinned == 4


class Picky:
    """A pipeline whose checker compares with a number of its weights, as that of Stable Diffusion 1.5 does."""

    def __init__(self) -> None:
        checker = nn.Module()
        checker.register_parameter("thresholds", nn.Parameter(torch.empty(3, device="meta")))
        checker.forward = lambda: checker.get_parameter("thresholds")[1].item() > 0.5
        self.components = {"safety_checker": checker}

    def set_progress_bar_config(self, **_: Any) -> None:
        """Nothing to show."""

    def to(self, device: torch.device) -> None:
        """As a pipeline's."""
        self.components["safety_checker"].to(device)

    def __call__(self) -> None:
        """Check."""
        assert not self.components["safety_checker"]()


def test_one_trace_serves_every_card_on_which_the_same_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attention of fp16 is flash on these, but of Turing: there it is another kernel, with other buffers, traced anew."""
    traces = note_traces(monkeypatch)
    shared: dict[str, Any] = {}
    call: dict[str, Any] = {
        "placement": Placement(),
        "options": MemoryOptions(),
        "height": 128,
        "width": 128,
        "steps": 2,
    }
    for card in ("rtx-3090", "rtx-4090", "h100-pcie", "t4", "rtx-5090", "t4"):
        stack = target_stack(card, "2.13.0", None)[0]
        both = [estimate_generation(described(), stack, **call, traced=traced) for traced in (None, shared)]
        alone, found = (replace(one, seconds=0.0) for one in both)
        assert found == alone
    names = [target_stack(card, "2.13.0", None)[0].gpu for card in ("rtx-3090", "t4")]
    assert [name for name in names if traces.count(name) > 1] == names
    assert len(traces) == 6 + len(names)


def test_a_pipeline_that_was_built_is_placed_in_every_way() -> None:
    """As a search does. With other options, it is another one."""
    shared: dict[Any, Any] = {}
    built: list[str] = []
    stack = target_stack("rtx-4090", "2.13.0", None)[0]
    ways = [Placement(offload=name) for name in ("model", "sequential", "none", "group-leaf", "model")]
    asked = [(way, MemoryOptions()) for way in ways] + [(ways[0], MemoryOptions(slicing=True))]
    for way, options in asked:
        call: dict[str, Any] = {
            "placement": way,
            "options": options,
            "height": 128,
            "width": 128,
            "steps": 2,
            "prompts": 2,
        }
        alone = estimate_generation(described(), stack, **call)
        found = estimate_generation(described(), stack, **call, traced=shared, tell=built.append)
        assert replace(found, seconds=0.0) == replace(alone, seconds=0.0)
    assert sum(line.startswith("building") for line in built) == 2
    assert sum(len(ones) for ones in shared.values()) == 5
