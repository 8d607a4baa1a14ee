"""What fits, by small models on small cards: the plainest way first, its costs, the largest size, mistakes."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

import profiler
from profiler.commands.fit import show_cards
from profiler.data.memory import Memory
from profiler.data.text import fit_command
from profiler.data.workload import MemoryOptions
from profiler.diagnosis.remedies import describe_remedy
from profiler.errors import UserError
from profiler.estimation import estimator
from profiler.machine.target import target_stack
from profiler.models.find import find_model
from profiler.search.answer import Answer
from profiler.search.call import question_of
from profiler.search.changes import CHANGES, combinations
from profiler.search.largest import largest, sizes_of
from profiler.search.pruning import Pruning
from profiler.search.question import GenerationQuestion, StageQuestion
from profiler.search.result import _command
from profiler.search.search import Search, pareto, plainest
from profiler.search.setting import Setting
from profiler.search.troubles import is_enough, may_help
from tests.pipelines import note_traces, small_sd15

VIDEO, IMAGE = "tests/models/tiny-video.yaml", "tests/models/tiny-image.yaml"
CARD: dict[str, Any] = {"gpu": "rtx-4090", "torch": "2.13.0"}
SIZE: dict[str, Any] = {"frames": 9, "height": 256, "width": 256}
TOP = {
    "verdict", "fits", "settings", "peak", "capacity_bytes", "headroom_bytes", "host_bytes", "code", "alternatives",
    "in_the_way",
}  # fmt: skip
COSTS = ["nothing", "time", "quality", "another version"]


def stage(spec: str = VIDEO, vram: str | None = None, **more: Any) -> StageQuestion:
    stack, context = target_stack("rtx-4090", "2.13.0", None, None, None, vram)
    return StageQuestion(spec=find_model(spec), stack=stack, context_bytes=context, sizes=SIZE, **more)


def test_the_ladder_begins_with_what_costs_nothing() -> None:
    costs = [COSTS.index(change.costs) for change in CHANGES]
    assert costs == sorted(costs)
    assert CHANGES[0].name == "expandable-segments"


def test_combinations_are_ordered_by_their_dearest_change() -> None:
    found = combinations([change for change in CHANGES if change.name in ("expandable-segments", "offload", "tiling")])
    assert [c.name for c in found[1]] == ["expandable-segments"]
    dearest = [max((CHANGES.index(change) for change in one), default=-1) for one in found]
    assert dearest == sorted(dearest)
    assert all(len({change.name for change in one}) == len(one) for one in found)
    assert len(found) == 2 * 2 * (1 + sum(change.name == "offload" for change in CHANGES))


def test_what_fits_as_it_is_comes_first_and_costs_nothing() -> None:
    found = profiler.fit(VIDEO, **SIZE, **CARD)
    assert (found.verdict, found.way.settings, found.way.costs) == ("fits", {}, ())
    assert found.line.startswith(f"{VIDEO}, decode, 9x256x256: fits on NVIDIA GeForce RTX 4090")
    whole = profiler.estimate(VIDEO, **SIZE, **CARD)
    assert found.way.peak == whole.peak
    assert found.way.headroom_bytes == found.way.capacity_bytes - found.way.reserved_bytes


def test_every_way_is_what_the_estimator_says_of_its_settings() -> None:
    question = stage(vram="1.15GiB")
    ways = pareto([t for t in Search(question, applicable(question)).run() if t.found])
    assert ways and all(way.fits for way in ways)
    for way in ways:
        conf = "expandable_segments:True" if way.setting.expandable else None
        again = profiler.estimate(
            VIDEO, **SIZE, **CARD, vram="1.15GiB", options=way.setting.options, dtype=way.setting.dtype, alloc_conf=conf
        )
        assert (again.verdict, again.peak) == (way.verdict, way.estimate.peak)
    reserved = [way.reserved for way in ways]
    assert reserved == sorted(reserved, reverse=True)  # each alternative takes less than what is plainer
    assert plainest(ways).verdict == "fits"


def applicable(question: Any) -> Any:
    return [change for change in CHANGES if change.applies(question)]


def test_a_tile_is_the_largest_that_fits() -> None:
    question = stage(vram="1.15GiB")
    found = Answer(question, ["tiling"]).fit()
    assert found.way.settings["tiling"] is True
    side = int(found.way.settings["tile"].split("x")[0])
    assert found.fits
    larger = min((s for s in (64, 96, 128, 192, 256, 320, 384) if s > side), default=None)
    if larger and larger < 256:
        trial = question.ask(Setting(options=MemoryOptions(tiling=True, tile=(larger, larger))))
        assert trial.verdict != "fits"
    assert any("of the pixels again" in cost for cost in found.way.costs)


def test_a_model_that_is_no_pipeline_says_that_it_is_its_decode() -> None:
    found = profiler.fit(VIDEO, **SIZE, **CARD)
    assert found.notes["model.stage"] == f"{VIDEO} is no pipeline, so this is its decode alone"
    assert "model.stage" not in profiler.fit(VIDEO, "decode", **SIZE, **CARD).notes
    target, context = target_stack("rtx-4090", "2.13.0", None)
    how = {"stack": target, "context_bytes": context, "base": Setting()}
    assert question_of("flux.1-dev-img2img", "decode", {}, how).name == "flux.1-dev"
    assert question_of("flux.1-dev-img2img", None, {}, how).whole


def test_what_cannot_help_is_not_tried() -> None:
    question = stage(vram="1.05GiB")
    base = question.ask(Setting())
    assert not base.fits and base.allocated > base.capacity
    changes = {change.name: change for change in CHANGES}
    assert not may_help(changes["expandable-segments"], base)
    assert may_help(changes["tiling"], base)


def test_a_peak_grows_with_each_size_and_the_next_size_does_not_fit() -> None:
    question = stage(vram="1.15GiB")
    peaks = [question.resized(frames=frames).ask(Setting()).allocated for frames in (1, 5, 9, 13, 17)]
    assert peaks == sorted(peaks)
    for side in ("height", "width"):
        peaks = [question.resized(**{side: size}).ask(Setting()).allocated for size in (64, 128, 256, 320)]
        assert peaks == sorted(peaks)
    at, found = largest(question.resized(height=256), "width", lambda one: one.ask(Setting()))
    assert at.size["width"] == found["value"] and (found["next"], found["untried"]) == (found["value"] + 8, 0)
    assert question.resized(height=256, width=found["value"]).ask(Setting()).fits
    above = question.resized(height=256, width=found["next"]).ask(Setting())
    assert not above.fits and found["missing_bytes"] == -above.headroom > 0


def test_the_steps_are_the_models_own() -> None:
    assert list(sizes_of(stage(), "frames"))[:4] == [1, 5, 9, 13]
    assert list(sizes_of(stage(), "height"))[:2] == [8, 16]
    assert sizes_of(replace(stage(), stage="denoise"), "height").step == 16
    assert max(sizes_of(stage(), "width")) == 4 * 256
    with pytest.raises(UserError, match="frames: tiny-image is an image model: nothing to search"):
        sizes_of(stage(IMAGE), "frames")


def test_json_has_what_a_program_reads(latentmeter: Any) -> None:
    words = ["--frames", 9, "--height", 256, "--width", 256, "--torch", "2.13.0", "--json"]
    done = latentmeter("fit", VIDEO, "--gpu", "rtx-4090", "--vram", "1.15GiB", *words)
    found = json.loads(done.out)
    assert done.code == 0 and found.keys() >= TOP
    assert found["fits"] and found["verdict"] == "fits" and found["settings"]
    for other in found["alternatives"]:
        assert other.keys() >= TOP - {"alternatives", "in_the_way"}
    again = latentmeter(*found["command"].split()[1:], "--json")
    assert json.loads(again.out)["peak"] == found["peak"]


def test_the_command_has_what_the_answer_set_of_the_card() -> None:
    """Not the torch and the allocator that the card was named with, where the answer changes them."""
    words = {"gpu": "t4", "torch": "2.9.1", "alloc-conf": "max_split_size_mb:64", "vram": None}
    stack, context = target_stack("t4", "2.9.1", None, None, "max_split_size_mb:64")
    question = StageQuestion(spec=find_model(VIDEO), stack=stack, context_bytes=context, card=words)
    asked = _command(question, Setting(torch="2.13.0", expandable=True))
    assert asked.endswith("--torch 2.13.0 --alloc-conf max_split_size_mb:64,expandable_segments:True --gpu t4")
    assert _command(question, Setting()).endswith("--gpu t4 --torch 2.9.1 --alloc-conf max_split_size_mb:64")


def test_nothing_fits_names_a_card_and_a_size(latentmeter: Any) -> None:
    size = ["--frames", 33, "--height", 1024, "--width", 1024, "--torch", "2.13.0"]
    card = ["--gpu", "rtx-4090", "--vram", "2GiB"]
    done = latentmeter("fit", VIDEO, *card, *size, "--json", "--allow", "expandable-segments")
    found = json.loads(done.out)
    assert done.code == 1 and not found["fits"]
    card, smaller = found["would_fit"]
    assert card.startswith("a card with 6 GiB, such as ")
    assert smaller.startswith("33x512x512 on this card, with")
    assert found["in_the_way"][0]["missing_bytes"] > 0
    assert "does not fit on" in found["line"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonesuch", "--gpu", "h200"], "no model 'nonesuch'"),
        ([VIDEO, "--gpu", "rtx-4091"], "no card 'rtx-4091': did you mean 'rtx-4090'"),
        ([VIDEO, "--gpu", "radeon rx 7900"], "not covered"),
        ([VIDEO, "--gpu", "h200", "--frames", 6], "frames: 6 is not of the form 4k+1"),
        ([VIDEO, "--gpu", "h200", "--frames", "max", "--height", "max"], "frames and height: one size at a time"),
        ([IMAGE, "--gpu", "h200", "--frames", "max"], "is an image model: nothing to search"),
        ([VIDEO, "--gpu", "h200", "--allow", "magic"], "no change 'magic'; there are expandable-segments, slicing"),
        ([VIDEO, "--gpu", "h200", "--allow", ""], "no change ''; there are expandable-segments, slicing"),
        ([VIDEO, "--gpu", "h200", "--allow", "offload"], "nothing to search: none of offload applies here"),
        ([VIDEO, "--gpu", "h200", "--steps", 3], "steps: goes with a whole generation"),
        (
            [VIDEO, "--gpu", "h200", "--offload", "model"],
            "offload: goes with a whole generation, --stage generate; `lat",
        ),
        ([VIDEO, "--gpu", "h200", "--decode-chunk", 3], "decode_chunk: goes with a whole generation"),
        ([VIDEO, "--gpu", "h200", "--ram", "0"], "ram: goes with a whole generation"),
        ([VIDEO, "--gpu", "h200", "--vram", "0.5GiB"], "CUDA reports none of it"),
        (["wan2.1-t2v-1.3b", "--gpu", "h200", "--frames", 80], "frames: 80 is not of the form 4k+1"),
        ([VIDEO, "--cards", "8,twelve"], "'twelve' is no memory size; expected one such as 12GiB"),
        ([VIDEO, "--cards", "8,512MiB"], "cards: '8,512MiB' is no list of whole GiB, such as 8,12,24"),
        ([VIDEO, "--gpu", "h200", "--height", "large"], "'large' is neither a whole number nor max"),
        ([VIDEO, "--gpu", "h200", "--height", "-8"], "height: expected a positive integer, got -8"),
        ([VIDEO], "no card is here, so name one"),
    ],
)
def test_a_mistake_is_told_with_what_there_is(latentmeter: Any, words: list[Any], message: str) -> None:
    done = latentmeter("fit", *words)
    assert done.code == 2, done.err
    assert message in done.err


def tiny() -> Any:
    """A small pipeline of the catalog's kind: Stable Diffusion 1.5's classes."""
    found = small_sd15(1_000_000)
    return replace(found, components=found.components | {"safety_checker": None, "feature_extractor": None})


def whole(vram: str | None = None, **more: Any) -> GenerationQuestion:
    stack, context = target_stack("rtx-4090", "2.13.0", None, None, None, vram)
    sizes = {"height": 512, "width": 512}
    return GenerationQuestion(spec=tiny(), stack=stack, context_bytes=context, sizes=sizes, call={"steps": 2}, **more)


def test_a_generation_is_traced_once_for_all_allocator_settings() -> None:
    question = whole()
    plain, expandable = question.ask(Setting()), question.ask(Setting(expandable=True))
    assert plain.estimate.phases[0].name == expandable.estimate.phases[0].name == "load"
    assert plain.allocated >= expandable.allocated > 0 and plain.reserved != expandable.reserved
    fresh = whole().ask(Setting(expandable=True))
    assert (fresh.allocated, fresh.reserved) == (expandable.allocated, expandable.reserved)


def test_a_stage_is_traced_once_for_all_allocator_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[Any] = []
    trace = estimator.trace_stage
    monkeypatch.setattr(estimator, "trace_stage", lambda *a: traced.append(a[0].options) or trace(*a))  # type: ignore[func-returns-value]
    monkeypatch.setenv("LATENTMETER_CACHE", "off")
    question, tiled = stage(), MemoryOptions(tiling=True)
    settings = [Setting(options=options, expandable=on) for options in (MemoryOptions(), tiled) for on in (True, False)]
    found = [question.ask(setting).estimate.peak for setting in settings]
    assert traced == [MemoryOptions(), tiled]
    assert found == [stage().ask(setting).estimate.peak for setting in settings] and len(traced) == 6


def test_more_that_costs_nothing_is_not_tried_where_less_of_it_fits() -> None:
    """Nobody needs another memory format where tiles fit without; nor by which allocator, if they fit by one."""
    changes = {change.name: change for change in CHANGES}
    expandable, other_format, tiling, dtype = (
        changes[name] for name in ("expandable-segments", "channels-last", "tiling", "dtype")
    )
    question = stage()
    fitting = replace(question.ask(Setting()), setting=Setting())
    pruning = Pruning(question, {(expandable, tiling): fitting})
    assert pruning._fits_already((other_format, tiling)) and pruning._fits_already((other_format, tiling, dtype))
    for worth in ((tiling,), (expandable, tiling), (expandable, tiling, dtype), (other_format,), (other_format, dtype)):
        assert not pruning._fits_already(worth)


def test_a_setting_is_traced_once_for_all_cards_of_a_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = note_traces(monkeypatch)
    monkeypatch.setattr("profiler.search.call.find_pipeline", lambda _: tiny())
    found = profiler.fit(
        "sd1.5", "generate", vram="24GiB", torch="2.13.0", height=512, width=512, steps=2, allow=["tiling"], cache=False
    )
    assert found.verdict == "fits" and "a10g, " in found.notes["stack.card"]
    assert traced == ["NVIDIA L4"] * 2 + ["NVIDIA TITAN RTX"]  # whole and in tiles; Turing has other kernels


def test_weights_that_are_too_many_are_not_placed_at_all() -> None:
    question = whole("1.25GiB")
    heavy = dict.fromkeys(("unet", "text_encoder"), 2_000_000_000)
    vars(question)["component_bytes"] = lambda _: heavy
    search = Search(question, applicable(question))
    search.run()
    assert all(trial.setting.placement.offload.startswith(("group", "sequential")) for trial in search.made.values())
    assert search.pruning.left_out["--offload none"] == "weights alone take 3.725 GiB at once"


def test_a_decode_without_room_is_told_with_its_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same decode fits where the weights wait on the host, as another way's row says beside this line."""
    monkeypatch.setattr("profiler.search.parts._decode_at_least", lambda *_: 1 << 36)
    question = whole()
    pruning = Search(question, applicable(question)).pruning
    assert not pruning.is_worth(())
    told = {
        "--offload none, the decode as it is": "the decode's tensors and the weights beside them take 64.000 GiB at once"
    }
    assert pruning.left_out == told


def test_two_troubles_want_two_changes() -> None:
    """Weights that leave no room for the loop, and a decode that has none anywhere: neither change alone is tried."""
    plain = whole().ask(Setting())
    phases = {phase.name: phase for phase in plain.estimate.phases if phase.call == 1}
    room = 100 << 20
    large = {
        "first step": {"weights": {"unet": 2 * room}, "live": 0, "activations": room // 2},
        "decode": {"weights": {}, "live": 0, "activations": 2 * room},
    }
    made = tuple(
        replace(phases[name], **parts, peak=Memory(allocated_bytes=2 * room, reserved_bytes=2 * room))  # type: ignore[arg-type]
        for name, parts in large.items()
    )
    found = replace(plain.estimate, phases=made, verdict="does not fit", fits=False, capacity_bytes=room)
    trial = replace(plain, found=found)
    changes = {change.name: change for change in reversed(CHANGES)}
    offload, tiling = changes["offload"], changes["tiling"]
    assert may_help(offload, trial) and may_help(tiling, trial)
    assert not is_enough([offload], trial) and not is_enough([tiling], trial)
    assert is_enough([offload, tiling], trial)


def test_a_host_with_too_little_memory_is_in_the_way() -> None:
    found = Answer(whole(ram=1 << 20), ["expandable-segments"]).fit()
    assert (found.verdict, found.in_the_way[0]["what"]) == ("does not fit", "host memory")


def test_what_does_not_fit_ends_with_the_command_that_finds_what_does(latentmeter: Any) -> None:
    words = ["--frames", 9, "--height", 256, "--width", 256, "--gpu", "rtx-4090", "--vram", "1.1GiB"]
    asked = "latentmeter fit tests/models/tiny-video.yaml --stage decode --frames 9 --height 256 --width 256"
    for command in (["estimate", VIDEO, *words], ["hotspots", VIDEO, *words]):
        last = latentmeter(*command).out.strip().splitlines()[-1]
        assert last == f"what would fit: {asked} --gpu rtx-4090 --vram 1.1GiB"
    assert "what would fit" not in latentmeter("estimate", VIDEO, "--gpu", "h200").out
    asked = {"stage": "denoise", "batch": 2, "dtype": "bf16", "text_length": 77, "gpu": "t4"}
    assert fit_command("tiny", asked).endswith("tiny --stage denoise --batch 2 --dtype bf16 --text-length 77 --gpu t4")


def test_a_remedy_says_whether_it_makes_it_fit() -> None:
    found, _ = profiler.hotspots(VIDEO, **SIZE, **CARD, vram="1.1GiB")
    said = {remedy.how: remedy.fits for remedy in found.remedies}
    assert found.verdict == "does not fit" and True in said.values()
    for remedy in found.remedies:
        told = describe_remedy(remedy)
        assert ("then it fits" in told, "does not fit still" in told) == (remedy.fits, not remedy.fits)
        assert "fit" not in describe_remedy(replace(remedy, fits_before=True))


def test_a_table_of_memories_is_markdown(latentmeter: Any) -> None:
    done = latentmeter("fit", VIDEO, "--frames", 5, "--height", 64, "--width", 64, "--cards", "8GiB, 24,8")
    lines = done.out.strip().splitlines()
    assert done.code == 0 and lines[1] == "|---|---|---|---|---|"
    assert [line.split(" | ")[1] for line in lines[2:]] == ["fits", "fits"]
    assert lines[2].startswith("| 8 GiB (NVIDIA GeForce RTX ")


def test_what_an_error_says_makes_no_cell_and_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    show_cards("tiny", [{"gib": 8, "error": "unsupported type(s) for |:\n'int' and 'str'"}])
    heads, _, row = capsys.readouterr().out.splitlines()
    assert len(re.findall(r"(?<!\\)\|", row)) == heads.count("|")


def test_a_table_in_which_nothing_fits_ends_as_an_answer_that_does_not_fit(latentmeter: Any) -> None:
    words = ["--frames", 33, "--height", 2048, "--width", 2048, "--allow", "expandable-segments"]
    done = latentmeter("fit", VIDEO, *words, "--cards", "4,6")
    assert done.code == 1 and done.out.count("does not fit") == 2


def test_the_largest_batch_is_no_matter_of_the_published_one() -> None:
    """An image model is published with one picture at once: a card may have room for many."""
    assert [*sizes_of(stage(IMAGE), "batch")] == [*range(1, 65)]


@pytest.mark.parametrize("allow", ["tiling, expandable-segments", ["tiling", "expandable-segments"], "tiling"])
def test_the_changes_allowed_are_a_list_or_text(allow: Any) -> None:
    found = profiler.fit(VIDEO, **SIZE, **CARD, vram="1.15GiB", allow=allow)
    set_here = {name for way in (found.way, *found.alternatives) for name in way.settings}
    assert "tiling" in set_here and set_here <= {"tiling", "tile", "alloc-conf"}


@pytest.mark.parametrize("verb", [profiler.fit, profiler.generate, profiler.estimate])
def test_an_object_in_place_of_a_name_is_told_what_answers_for_it(verb: Any) -> None:
    with pytest.raises(UserError, match=r"got a object: profiler\.estimate_call answers for an object"):
        verb(object(), gpu="rtx-4090")


def test_max_is_answered_with_the_next_size(latentmeter: Any) -> None:
    words = ["--frames", 5, "--height", "MAX", "--width", 256, "--gpu", "rtx-4090", "--vram", "1.15GiB", "--json"]
    found = json.loads(latentmeter("fit", VIDEO, *words, "--allow", "expandable-segments").out)
    assert found["fits"] and found["largest"]["value"] == found["size"]["height"]
    assert found["largest"]["next"] in (None, found["size"]["height"] + 8)
