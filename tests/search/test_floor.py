"""'Does not fit' is said of what takes least alone; tiles that a class gets wrong are passed over; `max` comes to an end."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from profiler.data.memory import Memory
from profiler.data.workload import CAST, Placement
from profiler.errors import ModelError
from profiler.machine.cards import find_gpu
from profiler.machine.target import target_stack
from profiler.models.find import find_model
from profiler.models.pipeline_spec import catalog_pipeline
from profiler.search.answer import Answer
from profiler.search.call import question_of
from profiler.search.changes import CHANGES, leanest
from profiler.search.instead import unlike
from profiler.search.largest import MOST_WHOLE, largest
from profiler.search.parts import denoiser_at_least, lower_bounds, of_vae_alone
from profiler.search.pieces import SIDES, _beside_others, _has_room, may_fit, with_chunks, with_tiles
from profiler.search.pruning import Pruning
from profiler.search.question import GenerationQuestion, StageQuestion
from profiler.search.search import CACHE, Search
from profiler.search.setting import Setting
from profiler.search.trial import Trial
from profiler.search.troubles import is_heavy, is_led_by_loop
from profiler.search.vae_switches import refusal
from tests.search.test_fit import VIDEO, applicable, whole

SEQUENTIAL = Placement(offload="sequential")


def cogvideox(vram: str, **sizes: int) -> GenerationQuestion:
    stack, context = target_stack("h100", "2.11.0", None, None, None, vram)
    return GenerationQuestion(spec=catalog_pipeline("cogvideox-5b"), stack=stack, context_bytes=context, sizes=sizes)


def test_another_placement_is_tried_though_the_decode_is_highest() -> None:
    """A denoiser's weights may be in the way of the loop while the decode, which has few, takes more."""
    plain = whole().ask(Setting())
    phases = {phase.name: phase for phase in plain.estimate.phases if phase.call == 1}
    loop, decode = phases["first step"], phases["decode"]
    room = 100 << 20
    made = (
        replace(loop, weights={"unet": 2 * room}, peak=Memory(allocated_bytes=2 * room, reserved_bytes=2 * room)),
        replace(decode, weights={"vae": 1}, peak=Memory(allocated_bytes=3 * room, reserved_bytes=3 * room)),
    )
    found = replace(plain.estimate, phases=made, verdict="does not fit", fits=False, capacity_bytes=room)
    assert is_heavy(replace(plain, found=found))
    assert not is_heavy(replace(plain, found=replace(found, phases=made[1:])))


def test_what_takes_least_is_the_last_of_each_name() -> None:
    question = whole()
    found = leanest(applicable(question))
    setting = question.base.with_changes(found)
    assert (setting.placement, setting.options.tiling, setting.expandable) == (SEQUENTIAL, True, True)
    assert {"channels-last", "attention"}.isdisjoint(change.name for change in found)
    old, context = target_stack("t4", "2.13.0", None)
    unfused = StageQuestion(spec=find_model("wan2.1-t2v-1.3b"), stage="denoise", stack=old, context_bytes=context)
    assert "attention" in [change.name for change in leanest(applicable(unfused))]


def test_what_takes_least_is_tried_before_it_is_said_that_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    question = whole()
    monkeypatch.setattr(Pruning, "is_worth", lambda *_: False)
    search = Search(question, [change for change in applicable(question) if change.name != "tiling"])
    trials = search.run()
    assert all(trial.fits and trial.setting.placement == SEQUENTIAL for trial in trials)
    assert [trial.setting.expandable for trial in trials] == [False, True]  # and the same without what it does not need


def test_the_next_leanest_is_taken_where_a_pipeline_refuses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = GenerationQuestion._estimate

    def refuse(self: GenerationQuestion, setting: Setting) -> Any:
        if setting.placement == SEQUENTIAL:
            raise ModelError("a weight stays behind")
        return estimate(self, setting)

    monkeypatch.setattr(GenerationQuestion, "_estimate", refuse)
    question = whole()
    trial = Search(question, [change for change in applicable(question) if change.name != "tiling"]).floor
    assert trial.found and trial.setting.placement.offload == "group-block"


def test_a_tile_that_a_class_gets_wrong_is_passed_over() -> None:
    """CogVideoX's decoder gives a picture of another size in square tiles: its own of 240x360 are taken."""
    question = cogvideox("4GiB", frames=9)
    setting = with_tiles(question, Setting(placement=SEQUENTIAL).with_options(tiling=True), None)
    assert setting.named == {"offload": "sequential", "tiling": True}
    assert question.vae_alone and question.vae_alone.ask(Setting().with_options(tiling=True, tile=(512, 512))).refused


def test_every_size_of_tiles_is_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest is taken where no larger one fits, in few trials, whatever the first guess was."""
    stack, context = target_stack("rtx-4090", "2.13.0", None)
    question = StageQuestion(
        spec=find_model(VIDEO), stack=stack, context_bytes=context, sizes={"height": 4096, "width": 4096}
    )
    asked: list[int] = []

    def only_the_smallest(_: Any, setting: Setting) -> Any:
        side = (setting.options.tile or (4096,))[0]
        asked.append(side)
        found = SimpleNamespace(terms=SimpleNamespace(weights=0))
        verdict = "fits" if side == SIDES[-1] else "does not fit"
        return SimpleNamespace(found=found, estimate=found, capacity=2**30, safe=2**31, verdict=verdict)

    monkeypatch.setattr(StageQuestion, "ask", only_the_smallest)
    assert with_tiles(question, Setting().with_options(tiling=True), None).options.tile == (SIDES[-1],) * 2
    assert len(asked) <= 1 + len(SIDES)


UNKNOWN = SimpleNamespace(phases=(), roomy=None)


def asked_by(ask: Any, frames: int = 1) -> Any:
    """A question of a whole generation without a VAE of its own."""
    return SimpleNamespace(ask=ask, whole=True, size={"frames": frames}, base=Setting(), vae_alone=None)


def test_smaller_tiles_are_tried_where_the_whole_is_tight() -> None:
    """The VAE's own stage says that 512 fits; what the denoiser leaves cached makes the whole tight.

    Not where the loop alone takes as much as a first call does: then smaller tiles change nothing.
    """
    asked: list[int] = []
    roomy = Memory(allocated_bytes=1, reserved_bytes=12)
    loop = SimpleNamespace(name="first step", call=1, peak=Memory(allocated_bytes=1, reserved_bytes=11))
    found = SimpleNamespace(phases=(loop,), roomy=roomy)

    def ask(setting: Setting) -> Any:
        side = setting.options.tile[0] if setting.options.tile else 0
        asked.append(side)
        return SimpleNamespace(setting=setting, fits=True, verdict="fits" if side <= 320 else "tight", estimate=found)

    tiling = tuple(change for change in CHANGES if change.name == "tiling")
    search = Search(asked_by(ask), tiling)
    asked_for = Setting().with_options(tiling=True, tile=(512, 512))
    trial = ask(replace(asked_for, changes=tiling))
    search.made |= {(): ask(asked_for), tiling: trial}  # the first as who asked for these tiles has it: they stay
    search._ask_beside()
    assert [found.setting.options.tile for found in search.made.values()] == [(512, 512), (320, 320)]
    assert asked == [512, 512, 384, 320]
    loop.peak = roomy
    search.made[tiling] = trial
    search._ask_beside()
    assert len(asked) == 4
    decode = SimpleNamespace(name="decode", call=1, peak=Memory(allocated_bytes=1, reserved_bytes=13))
    both = SimpleNamespace(phases=(loop, decode), roomy=None)
    tight = SimpleNamespace(setting=Setting(expandable=True), estimate=both)
    assert not is_led_by_loop(tight)  # type: ignore[arg-type]
    decode.peak = roomy
    assert is_led_by_loop(tight)  # type: ignore[arg-type]


def test_a_larger_tile_with_another_allocator_comes_before_a_smaller_one() -> None:
    """Wan 1.3B on 8 GiB fits in tiles of 384 with expandable segments, and only in tiles of 320 without."""
    fits = {(384, True), (320, True), (320, False)}

    def ask(setting: Setting) -> Any:
        side = setting.options.tile[0] if setting.options.tile else 0
        verdict = "fits" if (side, setting.expandable) in fits else "tight"
        return SimpleNamespace(setting=setting, fits=True, verdict=verdict, estimate=UNKNOWN)

    plain, lean = (tuple(c for c in CHANGES if c.name in names) for names in (("tiling",), ("tiling", CACHE)))
    search = Search(asked_by(ask), lean)
    tiles = Setting().with_options(tiling=True, tile=(512, 512))
    search.made |= {plain: ask(replace(tiles, changes=plain)), lean: ask(replace(tiles, changes=lean, expandable=True))}
    search._ask_beside()
    found = {one: trial.setting.options.tile for one, trial in search.made.items() if trial.verdict == "fits"}
    assert found == {lean: (384, 384)}


def test_the_tiles_of_the_last_size_serve_the_next_one_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Any] = []

    def floor(search: Search) -> Trial:
        chosen.append(search.question.size["height"])
        return search.question.ask(Setting().with_options(tiling=True))

    monkeypatch.setattr(Search, "floor", property(floor))
    answer = Answer(whole(), ["tiling"])
    settings = [answer._floor(answer.question.resized(height=side)).setting for side in (512, 256)]
    assert settings[0] == settings[1] != Setting() and chosen == [512]
    monkeypatch.setattr("profiler.search.answer.is_in_vae", lambda _: True)
    answer._floor(answer.question)
    assert chosen == [512, 512]


def test_tiles_are_the_largest_that_fit_by_any_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The VAE's own stage is asked with expandable segments where these may be set, whatever is tried first."""
    seen: list[bool] = []

    def choose(_: Any, setting: Setting, __: Any) -> Setting:
        seen.append(setting.expandable)
        return setting

    monkeypatch.setattr("profiler.search.search.with_tiles", choose)
    tiling = tuple(change for change in CHANGES if change.name == "tiling")
    for names, is_lean in ((("tiling",), False), (("tiling", CACHE), True)):
        search = Search(whole(), [change for change in CHANGES if change.name in names])
        assert not search._setting(tiling).expandable and seen.pop() is is_lean


def test_smaller_tiles_are_not_tried_where_the_vae_alone_says_how_little_they_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A whole generation that is tight by 4, in tiles that take 9 alone, has no room for tiles that take 6."""
    takes = {512: 9, 384: 6, 320: 5}

    def alone(_: Any, setting: Setting) -> Any:
        return SimpleNamespace(found=True, safe=takes[(setting.options.tile or (0,))[0]])

    monkeypatch.setattr(StageQuestion, "ask", alone)
    before, *smaller = (Setting().with_options(tiling=True, tile=(side, side)) for side in takes)
    trial: Any = SimpleNamespace(setting=before, safe=14, capacity=10)
    assert [may_fit(whole(), trial, one) for one in smaller] == [False, True]


def test_what_is_refused_over_a_stream_is_refused_over_another() -> None:
    """SDXL's pipeline casts its VAE, which leaves the copies behind that are brought over a stream."""
    offload = {change.title: (change,) for change in CHANGES if change.name == "offload"}
    pruning = Pruning(
        whole(), {offload["--offload group-leaf --stream"]: Trial(setting=Setting(), refused=f"... {CAST}")}
    )
    over = {title: pruning._is_refused_too(Setting().with_changes(one)) for title, one in offload.items()}
    assert over["--offload group-block --stream"] and not over["--offload sequential"]


def test_frames_that_are_a_batch_are_sliced_before_they_are_cut_into_tiles() -> None:
    """AnimateDiff hands 16 frames at once to a VAE of pictures: one by one, which costs nothing, the card has room."""
    stack, context = target_stack("rtx-4090", "2.13.0", None, None, None, "8GiB")
    question = GenerationQuestion(spec=catalog_pipeline("animatediff-sd1.5"), stack=stack, context_bytes=context)
    assert "slicing" in [change.name for change in applicable(question)]
    assert "slicing" not in [change.name for change in applicable(whole())]
    settings = Setting(), Setting().with_options(slicing=True), Setting(decode_chunk=2)
    whole_clip, sliced, chunk = (dict(lower_bounds(question, one))["the decode's tensors"] for one in settings)
    assert whole_clip > question.capacity > chunk > sliced
    svd = GenerationQuestion(spec=catalog_pipeline("svd-xt"), stack=stack, context_bytes=context)
    assert (
        refusal(svd, Setting().with_options(framewise=True)) == "AutoencoderKLTemporalDecoder has no framewise switch"
    )


def test_a_vae_is_tried_in_the_dtype_in_which_its_pipeline_loads_it() -> None:
    """Wan's is loaded in fp32 whatever --dtype says; asked alone in bf16, it is bf16, which the answer remarks on."""
    stack, context = target_stack("rtx-4090", "2.13.0", None)
    how: dict[str, Any] = {"stack": stack, "context_bytes": context, "base": Setting(dtype="bf16")}
    for pipeline, dtype in (("wan2.1-t2v-1.3b", "fp32"), ("flux.1-dev", "bf16")):
        vae = question_of(pipeline, None, {}, dict(how)).vae_alone
        assert vae and of_vae_alone(vae, Setting(dtype="bf16")).dtype == dtype
        alone = question_of(pipeline, "decode", {}, dict(how))
        assert alone.base.dtype == "bf16" and ("loads this VAE in fp32" in str(alone.notes)) is (dtype == "fp32")


def test_what_must_stand_there_at_least_leaves_a_lora_out() -> None:
    """It may be too little then, which costs a trial, and never too much, which would rule out what fits."""
    adapted = replace(whole(), call={"steps": 2, "lora": 4})
    assert [*lower_bounds(adapted, Setting())] == [*lower_bounds(whole(), Setting())]
    assert adapted.ask(Setting()).allocated > whole().ask(Setting()).allocated


@pytest.mark.parametrize("most", [1, 3, 24])
def test_a_chunk_is_the_largest_that_fits(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Every number of frames is in reach, in few trials of the VAE's own stage; one is taken where none fits."""
    asked: list[int] = []

    def fits_up_to(vae: StageQuestion, setting: Setting) -> Any:
        frames = vae.size["frames"]
        asked.append(frames)
        found, safe = SimpleNamespace(terms=SimpleNamespace(weights=0)), frames * vae.capacity // most
        verdict = "fits" if frames <= most else "tight"
        return SimpleNamespace(found=found, estimate=found, capacity=vae.capacity, safe=safe, verdict=verdict)

    monkeypatch.setattr(StageQuestion, "ask", fits_up_to)
    stack, context = target_stack("rtx-5070", "2.13.0", None)
    question = GenerationQuestion(spec=catalog_pipeline("svd-xt"), stack=stack, context_bytes=context)
    assert with_chunks(question, Setting(placement=SEQUENTIAL), None).decode_chunk == most
    assert asked[0] == 25 and len(asked) <= 4 and {most, min(most + 1, 24)} <= set(asked)  # the next larger one too


def test_larger_chunks_are_tried_where_the_whole_has_room() -> None:
    """A whole generation of SVD on 12 GiB has room for chunks of four frames, where the VAE's own stage is tight."""
    asked: list[int] = []
    chunking = tuple(change for change in CHANGES if change.name == "decode-chunk")

    def ask(setting: Setting) -> Any:
        asked.append(setting.decode_chunk or 25)
        verdict = "fits" if asked[-1] <= 4 else "tight"
        return SimpleNamespace(setting=setting, fits=True, verdict=verdict, estimate=UNKNOWN)

    search = Search(asked_by(ask, 25), chunking)
    search.made |= {chunking: ask(Setting(decode_chunk=3, changes=chunking))}
    search._ask_beside()
    assert [found.setting.decode_chunk for found in search.made.values()] == [4] and asked == [3, 4, 5]
    search.made |= {chunking: ask(Setting(decode_chunk=6, changes=chunking))}
    search._ask_beside()
    assert [found.setting.decode_chunk for found in search.made.values()] == [4] and asked[3:] == [6, 5, 4]


def test_weights_that_are_moved_do_not_stand_beside_a_tile() -> None:
    """Neither those of other components, nor the VAE's own, which its stage by itself has on the card."""
    question = whole()
    before = question.ask(Setting())
    vae = question.vae_alone
    assert vae is not None
    settings = Setting(placement=SEQUENTIAL), Setting()
    moved, all_there = (_beside_others(question, vae, one, before).stack.reserve_bytes for one in settings)
    assert 0 < moved < all_there
    found = SimpleNamespace(terms=SimpleNamespace(weights=4))
    trial: Any = SimpleNamespace(estimate=found, capacity=10, safe=13, verdict="does not fit")
    assert _has_room(trial, Setting(placement=SEQUENTIAL))
    assert not _has_room(trial, Setting(placement=Placement(offload="model")))


def test_the_denoiser_alone_is_no_more_than_a_step() -> None:
    """CogVideoX's step takes both halves of its guidance at once: 13.07 GiB with its weights, as a whole trace has it."""
    question = cogvideox("12GiB")
    model = dict(lower_bounds(question, Setting(placement=Placement(offload="model"))))
    assert 13.0 < model["the denoiser's tensors"] / 2**30 <= 13.07
    moved = denoiser_at_least(question, Setting(placement=SEQUENTIAL))
    assert moved and moved / 2**30 < 2.7 and model["the decode's tensors"] / 2**30 > 14


def test_what_must_stand_there_at_least_is_of_the_dtype_that_is_tried() -> None:
    """Asked in fp32, a change to bf16 is not ruled out by weights of fp32."""
    question = cogvideox("12GiB")
    model = Placement(offload="model")
    fp32, bf16 = (dict(lower_bounds(question, Setting(placement=model, dtype=dtype))) for dtype in ("fp32", "bf16"))
    assert all(fp32[what] > 1.5 * bf16[what] for what in ("weights", "the denoiser's tensors"))


def test_max_of_a_generation_takes_few_traces() -> None:
    """The denoiser alone leads to the size; what stands beside it, which a trace tells, to the one that fits."""
    question = replace(whole(), call={})
    traced: list[int] = []
    capacity, width = question.capacity, 512
    grows, beside = capacity // 900, capacity // 2  # far from the share that is taken at first

    def ask(one: Any) -> Any:
        traced.append(one.size["width"])
        size = grows * (one.size["width"] - width) + beside
        fits, missing = size <= capacity, capacity - size
        return SimpleNamespace(fits=fits, found=True, allocated=size, reserved=size, headroom=missing, why_not="")

    def least(one: Any) -> int:
        return grows * (one.size["width"] - width)

    _, found = largest(question, "width", ask, least)
    assert len(traced) <= MOST_WHOLE and found["untried"] == 0
    assert found["next"] == found["value"] + 64
    assert grows * (found["value"] - width) + beside <= capacity < grows * (found["next"] - width) + beside
    _, steep = largest(question, "width", lambda one: ask(one.resized(width=4 * one.size["width"] - 3 * width)), least)
    assert len(traced) <= 2 * MOST_WHOLE and steep["untried"] > 0


def test_a_card_like_this_one_is_named_first() -> None:
    hopper = target_stack("h100", None, None)[0]
    assert unlike(find_gpu("rtx-4060-ti-16gb"), hopper) < unlike(find_gpu("t4"), hopper)
