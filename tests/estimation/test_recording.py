"""Recordings: replayed at any size they equal a trace there to the byte, or refuse; the disk is never an error."""

import contextlib
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, WanTransformer3DModel

import profiler
from profiler.allocator.replay import Replay
from profiler.commands.recordings import show_recording
from profiler.data.events import Events
from profiler.data.records import Estimate
from profiler.data.stack import Stack
from profiler.data.workload import History, MemoryOptions, Workload
from profiler.errors import UserError
from profiler.estimation import estimator, recording
from profiler.estimation.answer import Traced, answer, estimate_of
from profiler.estimation.estimator import trace_stage
from profiler.estimation.recorded import Recorded
from profiler.estimation.recorder import Recorder, at
from profiler.estimation.recording import grid_of, replay
from profiler.estimation.size_functions import Grid, Size, SizeFunctions, size_of, value_at
from profiler.estimation.turns import cycles_of
from profiler.kernels.prices import Elsewhere
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.find import find_model
from profiler.models.spec import ModelSpec
from profiler.trace.trace import Trace
from tests.scripts import load_script

MODELS = Path(__file__).parent.parent / "models"
IMAGE, VIDEO = str(MODELS / "tiny-image.yaml"), str(MODELS / "tiny-video.yaml")
STACK = assumed_stack(find_gpu("rtx-4090"), "2.13.0")
drawn = load_script("make_recordings").drawn
CASES: list[tuple[str, Any, dict[str, Any]]] = [
    (IMAGE, "roundtrip", {}),
    (IMAGE, "denoise", {"dtype": "fp16"}),
    (VIDEO, "decode", {"frames": 9}),
    (VIDEO, "decode", {"frames": 33}),
    (VIDEO, "denoise", {"batch": 2}),
    ("hunyuan-video", "decode", {"frames": 5}),
    ("ltx-video-2b", "decode", {"frames": 9}),
    ("sd1.5", "decode", {"options": MemoryOptions(attention="math")}),
]


@cache
def case(number: int) -> tuple[Workload, ModelSpec, list[dict[str, Any]]]:
    model, stage, rest = CASES[number]
    spec = find_model(model)
    workload = spec.workload(stage, **rest)
    made = Recorder(workload, spec, STACK).recordings()
    assert not isinstance(made, str)
    return workload, spec, made


def blocks(events: Events) -> list[tuple[Any, ...]]:
    named = [events.ops[b.op] if b.op >= 0 else None for b in events.blocks]
    return [
        (b.bytes, b.shape, b.dtype, b.term, b.phase, b.born, b.died, b.price, op)
        for b, op in zip(events.blocks, named, strict=True)
    ]


def without_cost(found: Estimate) -> Estimate:
    return replace(found, seconds=0, notes={name: note for name, note in found.notes.items() if name != "seconds"})


def compare(workload: Workload, spec: ModelSpec, made: dict[str, Any], size: Size, stack: Stack = STACK) -> None:
    """Replay and trace at `size` agree in every block, event, kernel and figure."""
    here = at(workload, size)
    again = replay(made, size, stack)
    watched = trace_stage(here, spec, stack)
    trace, shapes = watched.trace, watched.output_shapes
    assert again.events.events == trace.events
    assert blocks(again.events) == blocks(trace)
    assert (dict(again.routes), again.output_shapes) == (dict(trace.routes), shapes)
    found = estimate_of(answer(again, again.on(stack, None), started=0), here, spec)
    assert without_cost(found) == without_cost(estimator.estimate(here, spec, stack))
    del watched


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_replay_equals_a_trace_at_sizes_that_were_not_recorded(number: int) -> None:
    workload, spec, made = case(number)
    assert any(grid_of(one).holds(size_of(workload)) for one in made)
    for one in made:
        compare(workload, spec, one, drawn(one, random.Random(number)))


@pytest.mark.parametrize("card", ["l40s", "t4", "b200"])
def test_one_recording_serves_every_card(card: str) -> None:
    """cuDNN's plans, attention kernels and the workspace of matrix products are those of the card that is asked for."""
    other = assumed_stack(find_gpu(card), "2.13.0")
    for number in (2, 3, 7) if card == "t4" else (2, 3, 4, 7):  # a T4 takes another path through attention
        workload, spec, made = case(number)
        compare(workload, spec, made[0], drawn(made[0], random.Random(5)), other)


def test_a_reduction_is_asked_again_where_it_takes_more_buffers_or_none() -> None:
    """Norms of a latent: blocks share an output where there are few; large outputs are summed part by part."""

    def traced(size: tuple[int, ...], stack: Stack, slots: bool) -> Traced:
        trace = Trace(stack, slots=slots)
        with torch.no_grad(), trace.during("cold", "activations"):
            x = torch.empty((1, 4096, *size), dtype=torch.bfloat16, device="meta")
            norm = torch.linalg.vector_norm(x.transpose(2, 3), 2, 1, True)
            del x, norm
        return Traced(trace, dict(trace.routes), {}, ())

    grid = Grid((32, 32, 1), (8, 8, 1), (1056, 1056, 1), most=1)
    sizes = [*grid.deciding(), (80, 136, 1, 1)]
    made = json.loads(json.dumps(recording.record(grid, {size: traced(size[:2], STACK, True) for size in sizes})))
    other = assumed_stack(find_gpu("t4"), "2.13.0")
    found: dict[tuple[int, ...], list[int]] = {}
    for size in ((32, 32), (104, 96), (256, 240), (1056, 1024)):
        for stack in (STACK, other):
            again, trace = replay(made, (*size, 1, 1), stack), traced(size, stack, False)
            assert (again.events.events, blocks(again.events)) == (trace.events.events, blocks(trace.events))
            found.setdefault(size, []).append(len(trace.events.blocks) - 2)
    assert found == {(32, 32): [2, 2], (104, 96): [2, 0], (256, 240): [0, 0], (1056, 1024): [1, 1]}


def test_one_recording_serves_masks_that_are_padded_and_masks_that_are_not() -> None:
    """The efficient kernel pads a mask whose rows are no multiple of eight, and lets go of what it converted to do so."""

    def traced(size: tuple[int, ...], slots: bool) -> Traced:
        trace = Trace(STACK, slots=slots)
        with torch.inference_mode(), trace.during("cold", "activations"):
            q = torch.empty((1, 2, size[0] * size[1], 64), dtype=torch.bfloat16, device="meta")
            mask = torch.empty((1, 1, 1, size[0] * size[1]), dtype=torch.bool, device="meta")
            y = torch.nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=mask)
            del q, mask, y
        return Traced(trace, dict(trace.routes), {}, ())

    grid = Grid((4, 5, 1), (1, 1, 1), (64, 71, 1), most=1)
    sizes = [*grid.deciding(), (8, 16, 1, 1), (9, 15, 1, 1)]
    made = json.loads(json.dumps(recording.record(grid, {size: traced(size[:2], True) for size in sizes})))
    for size, born in (((40, 64), 6), ((41, 63), 7)):  # the tensors, two numbers, the mask converted, and padded
        again, trace = replay(made, (*size, 1, 1), STACK), traced(size, False)
        assert (again.events.events, blocks(again.events)) == (trace.events.events, blocks(trace.events))
        assert len(trace.events.blocks) == born


def coded(size: Size, slots: bool, growth: int = 1) -> Traced:
    """A causal coder: a chunk leaves its end to the next, a clip grows, and what each chunk made goes when the last has."""
    trace = Trace(STACK, slots=slots)
    with torch.no_grad(), trace.during("cold", "activations"):
        clip = torch.empty((size[3], 8, size[2], *size[:2]), device="meta")
        weight = torch.empty((8, 8, 2, 3, 3), device="meta")
        left = whole = clip[:, :, :1].clone()
        parts = []
        for number, chunk in enumerate(clip.split(1, 2)):
            out = torch.nn.functional.conv3d(torch.cat([left, chunk], 2), weight, padding=(0, 1, 1))
            left = chunk.clone()
            whole = torch.cat([whole, out], 2)
            parts.append(out * number**growth)
            passing = out.new_empty(number**growth, size[0])
            del out, passing
        made = torch.cat(parts, 2)
        del parts, made, whole, left, clip, weight, chunk
    return Traced(trace, dict(trace.routes), {}, ())


def test_what_a_coder_does_for_each_chunk_is_kept_once_and_serves_clips_of_any_length() -> None:
    line = Grid((16, 24, 4), (8, 8, 1), (160, 240, 32))
    sizes = [*line.deciding(), (48, 64, 9, 3)]
    cycles = cycles_of(coded((16, 24, 4, 1), True).events, coded((16, 24, 5, 1), True).events)
    assert [events for _, events, _ in cycles] == [13, 1]  # what a chunk does; and what it made goes
    found = {size: coded(size, True) for size in sizes}
    made = json.loads(json.dumps(recording.record(replace(line, cycles=cycles), found)))
    assert len(made["events"]) < len(coded((16, 24, 4, 1), True).events.events)
    for size in ((40, 56, 4, 1), (72, 64, 7, 2), (160, 240, 32, 5)):
        again, trace = replay(made, size, STACK), coded(size, False)
        assert (again.events.events, blocks(again.events)) == (trace.events.events, blocks(trace.events))


def test_chunks_whose_numbers_are_no_function_of_the_turn_are_not_recorded() -> None:
    line = Grid((16, 24, 4), (8, 8, 1), (160, 240, 32))
    found = {size: coded(size, True, growth=2) for size in line.deciding()}
    cycles = cycles_of(coded((16, 24, 4, 1), True, 2).events, coded((16, 24, 5, 1), True, 2).events)
    with pytest.raises(Elsewhere):
        recording.record(replace(line, cycles=cycles), found)


def test_a_clip_that_runs_otherwise_when_it_is_longer_has_no_cycles() -> None:
    short, longer = coded((16, 24, 4, 1), True).events, coded((16, 24, 5, 1), True).events
    with pytest.raises(Elsewhere):
        cycles_of(longer, short)
    longer.events.append(0)
    longer.blocks.append(longer.blocks[0])
    with pytest.raises(Elsewhere):
        cycles_of(short, longer)


def test_a_batch_from_which_on_an_upsampling_copies_its_input_ends_a_recording() -> None:
    """diffusers' Upsample2D makes a batch of 64 or more contiguous, which copies what lies channels last."""
    workload, spec, made = case(0)
    height, width, frames = grid_of(made[-1]).first
    assert grid_of(made[-1]).images == 63
    compare(workload, spec, made[-1], (height, width, frames, 63))
    trace = trace_stage(at(workload, (height, width, frames, 64)), spec, STACK).trace
    assert len(trace.events) != len(replay(made[-1], (height, width, frames, 63), STACK).events.events)


def test_a_recording_ends_where_an_upsampling_copies_its_input_for_its_pixels() -> None:
    """Upsample2D makes over 2^30 elements contiguous too: the 256 channels of more than 16 images at half of 1024 pixels."""
    workload, spec, made = case(len(CASES) - 1)
    last = grid_of(made[-1]).last
    assert (last, grid_of(made[-1]).volume) == ((1024, 1024, 1), 16 * 1024 * 1024)
    compare(workload, spec, made[-1], (*last, 16))
    here, further = (trace_stage(at(workload, (*last, size)), spec, STACK).trace for size in (16, 17))
    assert len(here.events) != len(further.events)
    with pytest.raises(Elsewhere):
        replay(made[-1], (*last, 17), STACK)


def test_a_size_that_is_not_on_the_grid_is_elsewhere() -> None:
    _, _, (made, *_) = case(0)
    grid = grid_of(made)
    height, width, frames = grid.first
    for size in (
        (height + 1, width, frames, 1),
        (grid.last[0] + grid.step[0], width, frames, 1),
        (height, width, 2, 1),
    ):
        with pytest.raises(Elsewhere):
            replay(made, size, STACK)


def test_another_kernel_than_recorded_is_elsewhere() -> None:
    workload, _, (made, *_) = case(3)
    older = replace(STACK, capability=(4, 0))
    with pytest.raises(Elsewhere):
        replay(made, size_of(workload), older)


def test_a_branch_on_the_size_is_not_bridged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide pictures take another path in this decoder: what is recorded lies on one side of it, and is exact there."""
    decode = AutoencoderKL._decode

    def branching(self: AutoencoderKL, z: torch.Tensor, return_dict: bool = True) -> Any:
        return decode(self, z * 2 if z.shape[-1] > 20 else z, return_dict)

    monkeypatch.setattr(AutoencoderKL, "_decode", branching)
    spec = find_model(IMAGE)
    workload = spec.workload("decode")
    made = Recorder(workload, spec, STACK).recordings()
    grids = [grid_of(one) for one in made if not isinstance(one, str)]
    assert grids  # 20 latents are 40 pixels wide
    assert all(grid.last[1] <= 40 or grid.first[1] > 40 for grid in grids)


def test_a_branch_on_the_number_of_pixels_has_a_recording_on_each_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a convolution that is cut above 2 GiB: no box of sizes lies on one side of it, a band of them does."""
    decode = AutoencoderKL._decode

    def branching(self: AutoencoderKL, z: torch.Tensor, return_dict: bool = True) -> Any:
        return decode(self, z * 2 if z.numel() > 4 * 600 else z, return_dict)

    monkeypatch.setattr(AutoencoderKL, "_decode", branching)
    spec = find_model(IMAGE)
    workload = spec.workload("decode")
    made = json.loads(json.dumps(Recorder(workload, spec, STACK).recordings()))
    below, above, *others = (grid_of(one) for one in made)
    assert {grid.batch for grid in others} == {2, 3}
    assert below.pixels and above.pixels and 0.9 * 2400 < below.pixels[1] <= 2400 < above.pixels[0] < 1.1 * 2400
    for one, size in ((made[0], (52, 40, 1, 1)), (made[1], (48, 54, 1, 1)), (made[1], (56, 56, 1, 1))):
        compare(workload, spec, one, size)
    with pytest.raises(Elsewhere):
        replay(made[0], (48, 54, 1, 1), STACK)


def test_sound_of_a_length_that_is_no_function_of_the_frames_is_recorded_for_the_asked_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = WanTransformer3DModel.forward

    def sounding(self: WanTransformer3DModel, hidden_states: torch.Tensor, *rest: Any, **named: Any) -> Any:
        sound = hidden_states.new_zeros(int("0149"[hidden_states.shape[2]]), 999)
        found = forward(self, hidden_states, *rest, **named)
        del sound
        return found

    monkeypatch.setattr(WanTransformer3DModel, "forward", sounding)
    spec = find_model(VIDEO)
    workload = spec.workload("denoise")
    made = json.loads(json.dumps(Recorder(workload, spec, STACK).recordings()))
    assert {grid_of(one).first[2] for one in made} == {grid_of(one).last[2] for one in made} == {workload.frames}
    height, width, frames = grid_of(made[0]).last
    compare(workload, spec, made[0], (height, width, frames, 2))


def test_a_published_size_that_alone_runs_otherwise_has_a_recording_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where position tables of the trained size are kept, and those of any other are made."""
    decode = AutoencoderKL._decode
    spec = find_model(IMAGE)
    workload = spec.workload("decode")
    published = (workload.height, workload.width)

    def branching(self: AutoencoderKL, z: torch.Tensor, return_dict: bool = True) -> Any:
        found = decode(self, z, return_dict)
        sample = found.sample if return_dict else found[0]
        return found if tuple(sample.shape[-2:]) == published else decode(self, z * 2, return_dict)

    monkeypatch.setattr(AutoencoderKL, "_decode", branching)
    made = json.loads(json.dumps(Recorder(workload, spec, STACK).recordings()))
    wide = next(one for one in made if grid_of(one).apart)
    alone = next(one for one in made if not grid_of(one).apart)
    assert grid_of(alone).first == grid_of(alone).last == (*published, 1)
    compare(workload, spec, alone, size_of(workload))
    step = grid_of(wide).step[0]
    compare(workload, spec, wide, (published[0] + step, published[1], 1, 1))
    with pytest.raises(Elsewhere):
        replay(wide, size_of(workload), STACK)


@pytest.mark.parametrize(
    "function",
    [
        lambda h, w, f, n: n * (3 * h * w + w + 5),
        lambda h, w, f, n: h,
        lambda h, w, f, n: 7 + n,
        lambda h, w, f, n: n * (f // 4 + 1) * h * w // 4 + 77 * n,
        lambda h, w, f, n: n * -(-h // 64) * -(-w // 64),
        lambda h, w, f, n: h // 32,
    ],
)
def test_dimensions_are_functions_of_the_size(function: Any) -> None:
    grid = Grid((8, 16, 1), (8, 8, 4), (520, 1040, 81))
    sizes = [*grid.deciding(), (104, 216, 21, 3), (40, 72, 33, 1), (312, 24, 5, 2)]
    found = SizeFunctions(grid, sizes)
    number = found.of([function(*size) for size in sizes])
    for size in ((136, 200, 25, 5), (72, 328, 41, 2)):
        assert value_at(grid, found.functions[~number], size) == function(*size)


@pytest.mark.parametrize(
    "wrong",
    [lambda h, w, f, n: h * h, lambda h, w, f, n: max(h, w), lambda h, w, f, n: n * n, lambda h, w, f, n: n * h + w],
)
def test_other_dimensions_are_refused(wrong: Any) -> None:
    grid = Grid((8, 16, 1), (8, 8, 4), (520, 1040, 81))
    sizes = [*grid.deciding(), (104, 216, 21, 3), (40, 72, 33, 1), (312, 24, 5, 2)]
    with pytest.raises(Elsewhere):
        SizeFunctions(grid, sizes).of([wrong(*size) for size in sizes])


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "latentmeter"


def test_the_same_question_is_answered_from_disk(disk: Path) -> None:
    size = {"height": 64, "width": 48, "options": MemoryOptions(tiling=True)}
    first, again = (profiler.estimate(IMAGE, gpu="h200", **size) for _ in range(2))
    assert "kept from the same estimate" in again.notes["seconds"]
    assert without_cost(again) == without_cost(first)
    assert "seconds" not in profiler.estimate(IMAGE, gpu="h200", cache=False, **size).notes
    assert "seconds" not in profiler.estimate(IMAGE, gpu="h100", **size).notes
    assert "seconds" not in profiler.estimate(IMAGE, gpu="h200", torch="2.12.0", **size).notes


def test_a_broken_or_unwritable_cache_is_no_error(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = profiler.estimate(IMAGE, gpu="h200")
    (path,) = (disk / "answers").iterdir()
    path.write_bytes(path.read_bytes()[:50])
    assert without_cost(profiler.estimate(IMAGE, gpu="h200")) == without_cost(first)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    assert "seconds" not in profiler.estimate(IMAGE, gpu="h200").notes


def test_switched_off_nothing_is_written(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTMETER_CACHE", "off")
    for _ in range(2):
        assert "seconds" not in profiler.estimate(IMAGE, gpu="h200").notes
    assert not disk.exists()


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ({"options": MemoryOptions(tiling=True)}, "tiles"),
        ({"options": MemoryOptions(benchmark=True)}, "benchmark"),
        ({"history": History(sizes=((1, 64, 64),))}, "did before"),
        ({"stack": Stack(device="cpu", torch="2.13.0")}, "CPU"),
    ],
)
def test_what_cannot_be_recorded_says_why(disk: Path, question: dict[str, Any], reason: str) -> None:
    found = profiler.make_recording(IMAGE, **({} if "stack" in question else {"gpu": "h200"}) | question)
    assert reason in (found.reason or "")
    assert (found.grids, found.path, disk.exists()) == ((), None, False)


def test_a_model_that_runs_other_operations_at_each_size_is_not_recorded(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = AutoencoderKL._decode

    def branching(self: AutoencoderKL, z: torch.Tensor, return_dict: bool = True) -> Any:
        for _ in range(z.shape[-1]):
            z = z * 2
        return decode(self, z, return_dict)

    monkeypatch.setattr(AutoencoderKL, "_decode", branching)
    assert "other operations" in (profiler.make_recording(IMAGE, gpu="h200").reason or "")


def test_a_recording_that_is_there_is_not_made_again(disk: Path) -> None:
    traces: list[str] = []

    def make(**changes: Any) -> Any:
        traces.clear()
        return profiler.make_recording(IMAGE, gpu="h200", tell=traces.append, **changes)

    first = make()
    assert traces
    assert first.made is None
    again = make(height=44, width=56)
    assert (traces, again.path, again.bytes, again.grids) == ([], first.path, first.bytes, first.grids)
    assert again.made == datetime.now(UTC).date().isoformat()
    assert make(force=True).made is None
    assert traces
    assert make(batch=2).path == first.path
    assert make(dtype="fp16").path != first.path
    assert traces
    assert len(make(height=400, width=400).grids) > len(first.grids)


def test_a_recording_needs_the_disk(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    with pytest.raises(UserError, match="cannot be written"):
        profiler.make_recording(IMAGE, gpu="h200")
    monkeypatch.setenv("LATENTMETER_CACHE", "off")
    with pytest.raises(UserError, match="LATENTMETER_CACHE"):
        profiler.make_recording(IMAGE, gpu="h200")


def test_what_fits_is_seen_in_the_reserved_peak() -> None:
    """`fits` without another replay: where the reserved peak fits, a replay within that capacity frees nothing."""
    workload, _, (made, *_) = case(0)
    traced = replay(made, size_of(workload), STACK)
    peak = Replay(traced.events, recording_allocator()).allocator.peak_reserved
    assert peak is not None
    tight = Replay(traced.events, recording_allocator(peak)).allocator
    assert (tight.retries, tight.peak_reserved) == (0, peak)  # type: ignore[union-attr]


def recording_allocator(capacity: int | None = None) -> Any:
    from profiler.allocator.histories import allocator_of

    return allocator_of(STACK, capacity)


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`latentmeter` in a process of its own; its output ends with whether it imported torch and pandas."""
    code = (
        "import sys\nfrom profiler.commands.main import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_from_the_shell_a_recorded_model_is_answered_at_any_size_without_torch(disk: Path) -> None:
    made = shell("recordings", "make", IMAGE, "--gpu", "h200", "--json")
    assert made.returncode == 0
    assert "trace 1: " in made.stderr
    found = json.loads(made.stdout.rsplit("\n", 2)[0])
    assert Path(found["path"]).stat().st_size == found["bytes"] > 0
    assert found["grids"][0]["first"][0] < 44 < found["grids"][0]["last"][0]
    told = shell("estimate", IMAGE, "--gpu", "rtx-4090", "--height", "44", "--width", "56", "--batch", "3").stdout
    assert "replayed from a recording of" in told
    assert told.rstrip().endswith("False False")


def test_what_was_recorded_ends_with_a_command_that_asks_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    history = History(device_map=True)
    asked = find_model(IMAGE).workload("decode", options=MemoryOptions(slicing=True), dtype="fp16", history=history)
    box = Grid((8, 8, 1), (8, 8, 1), (64, 64, 1))
    grids = (box, replace(box, pixels=(64, 4096), apart=((8, 16, 1),), images=63, volume=1 << 24))
    show_recording(Recorded(workload=asked, stack=STACK, grids=grids, path="here", bytes=1))
    _, plain, band, _, following = capsys.readouterr().out.splitlines()
    limits = "at most 63 images, at most 16,777,216 pixels of all images"
    assert band == f"{plain}, 64 to 4,096 pixels, {limits}, but for 1 of these sizes"
    words = f"estimate {IMAGE} --stage decode --dtype fp16 --torch 2.13.0 --slicing --device-map"
    assert following == f"next: latentmeter {words} --height ... --width ..."


def test_one_recording_removed_is_one(monkeypatch: pytest.MonkeyPatch, latentmeter: Any) -> None:
    for number, said in ((1, "1 recording removed"), (2, "2 recordings removed")):
        monkeypatch.setattr("profiler.files.cache.clear", lambda _, number=number: number)
        assert latentmeter("recordings", "clear").out.strip() == said


def test_from_the_shell_a_refusal_is_exit_code_one(disk: Path) -> None:
    refused = shell("recordings", "make", IMAGE, "--gpu", "h200", "--tiling")
    assert refused.returncode == 1
    assert "no recording: the number of tiles" in refused.stdout


def test_an_estimate_leaves_no_process_behind(disk: Path) -> None:
    """A process that outlived the command would still have its environment, which only its children share."""
    mark = f"LATENTMETER_TEST={disk}"
    command = [sys.executable, "-m", "profiler", "estimate", IMAGE, "--gpu", "h200"]
    subprocess.run(command, capture_output=True, check=True, env=os.environ | dict([mark.split("=", 1)]))
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                left.append((process / "cmdline").read_text())
    assert left == []
    assert {path.name for path in disk.iterdir()} - {"plans"} == {"answers"}  # plans: where a cuDNN was asked
