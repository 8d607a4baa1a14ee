"""Hot spots of whole generations: what nothing reads again, which line holds it, and what other placements take."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")  # text encoders

import diffusers
import torch

from profiler import api
from profiler.commands.hotspots import show_hotspots
from profiler.data.workload import MemoryOptions, Placement
from profiler.diagnosis.dead_weight import DeadWeight
from profiler.diagnosis.generation import generation_hotspots, profile_traced
from profiler.diagnosis.held import HeldTrace
from profiler.diagnosis.hotspots import Hotspots, summarize
from profiler.diagnosis.lives import SPENT
from profiler.diagnosis.profile import Profile
from profiler.estimation import placed
from profiler.estimation.placed import trace_generation, trace_placed
from profiler.machine.target import target_stack
from profiler.report.hotspots import render_page
from profiler.stages.generation import Generation
from profiler.stages.generation_ready import Ready
from tests.pipelines import PIPELINES

STACK = target_stack("rtx-4090", "2.13.0", None)[0]
HOARD = 8 << 20
PHASES = ["text encode", "first step", "later steps", "decode", "post-process"]


def made_elsewhere(device: torch.device) -> torch.Tensor:
    made = torch.empty(HOARD, dtype=torch.uint8, device=device)
    return made.fill_(1)


class Hoarder(diffusers.FluxPipeline):
    """Carries eight mebibytes through a generation, and as much that it copies to the host at the end."""

    def __call__(self, **call: Any) -> Any:
        hoard = made_elsewhere(
            self._execution_device,
        )
        used = made_elsewhere(self._execution_device)
        answer = super().__call__(**call)
        used.to("cpu")
        del hoard
        return answer


def profiled(name: str, kind: Any = None, **placement: Any) -> Profile:
    pipe, call = PIPELINES[name]()
    pipe.__class__ = kind or type(pipe)
    traced = trace_generation(Generation(pipe, pipe, call, Placement(**placement)), STACK, kind=HeldTrace)
    return profile_traced(traced, STACK, None, name)[0]


def dead(found: Hotspots) -> list[DeadWeight]:
    return [finding for finding in found.findings if isinstance(finding, DeadWeight)]


@pytest.fixture(scope="module")
def hoarded() -> Hotspots:
    return summarize(profiled("flux", Hoarder, offload="model"))


def test_what_a_pipeline_carries_is_told_with_its_line_and_phases(hoarded: Hotspots) -> None:
    [hoard] = [item for item in dead(hoarded) if item.code.startswith("hoard")]
    assert hoard.code == "hoard = made_elsewhere( self._execution_device, )"
    file, line = hoard.where.split(":")
    assert file == "test_generation.py"
    assert Path(__file__).read_text(encoding="utf-8").splitlines()[int(line) - 1].strip() == "hoard = made_elsewhere("
    assert hoard.phases == dict.fromkeys(PHASES, HOARD)
    assert hoard.title.startswith(
        "dead weight in text encode, first step, later steps, decode, post-process, held by test"
    )


def test_what_is_copied_to_the_host_later_is_read(hoarded: Hotspots) -> None:
    assert not [item for item in dead(hoarded) if item.code.startswith("used")]


def test_a_cache_that_the_next_call_replaces_is_held_outside_of_it() -> None:
    """AutoencoderKLWan.decode: in each round `self.decoder` puts other features into `self._feat_map`."""
    found = summarize(profiled("wan"))
    lines = {item.code: item for item in dead(found)}
    cache = next(item for code, item in lines.items() if code.startswith("out_ = self.decoder("))
    assert [*cache.phases] == ["decode"]
    assert cache.bytes >= sum(item.bytes for item in found.alive if item.because == SPENT) > 9 << 20
    assert cache.where.startswith("diffusers/models/autoencoders/autoencoder_kl_wan.py:")
    assert any(code.startswith("x = up_block(x") for code in lines), "the argument that a caller holds"


# The peak of the higher call in dry CUDA, as in tests/estimation/test_generation.py.
@pytest.mark.parametrize(
    ("name", "how", "peak"),
    [
        ("wan", {}, 59421696),
        ("wan", {"offload": "group-leaf", "stream": True}, 45943808),
        ("flux", {"offload": "sequential"}, 21772800),
    ],
)
def test_looking_closely_changes_no_byte(name: str, how: dict[str, Any], peak: int) -> None:
    assert profiled(name, **how).peak == peak


def test_a_second_call_is_told_beside_the_first() -> None:
    told = profiled("wan").notes["second call"]
    assert told == "takes no more than the first, whose hot spots these are"
    told = profiled("flux", offload="model").notes["second call"]  # 1 KiB in dry CUDA: the answer of the first is held
    assert told == "takes 21.0 MiB allocated (1.0 KiB more), the most in text encode; these are its hot spots"


class Keeper(diffusers.FluxPipeline):
    """Keeps eight mebibytes of each call until the end of the next one, and gives tensors back."""

    def __call__(self, **call: Any) -> Any:
        answer = super().__call__(**call | {"output_type": "pt"})
        self.kept = made_elsewhere(self._execution_device)
        return answer


def test_where_the_second_call_is_higher_it_is_the_one_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    profile = profiled("flux", Keeper)
    found = summarize(profile)
    first = summarize(profiled("flux"))
    # To that of the first call (in dry CUDA 24623616) comes what is kept, and the 1 KiB that any second call has more.
    assert found.allocated == 24623616 + HOARD + 1024 == sum(found.by_module.values())
    assert {phase.call for phase in found.phases} == {2}
    assert [phase.name for phase in found.phases] == PHASES
    [kept] = [item for item in dead(found) if item.bytes == HOARD]
    assert kept.code == "self.kept = made_elsewhere(self._execution_device)"
    assert [*kept.phases] == PHASES
    [alive] = [item for item in found.alive if item.bytes == HOARD]
    assert (alive.op, alive.because) == ("first call", "never read; held by the stage")
    assert sum(item.term == "outputs" for item in profile.blocks) == 1, "the second call's picture"
    calls = {(node.path, node.calls) for node in found.modules}
    assert calls == {(node.path, node.calls) for node in first.modules}, "of one call"
    show_hotspots(found)
    assert ", text encode of the second call; fits" in capsys.readouterr().out
    assert "allocations of the second call" in render_page(found)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever pipeline is asked for is a small one."""

    def ready(_: Any, options: MemoryOptions, *__: Any, **___: Any) -> Any:
        pipe, call = PIPELINES["flux"]()
        if options.tiling:
            pipe.vae.enable_tiling()
        return Ready(pipe, call, options, {}, {"steps": "few"})

    monkeypatch.setattr(placed, "made_ready", ready)


@pytest.mark.usefixtures("small")
def test_the_command_line_gives_lines_and_files(latentmeter: Any, tmp_path: Path) -> None:
    command = ("hotspots", "flux.1-dev", "--stage", "generate", "--offload", "model", "--gpu", "rtx-4090")
    answer = latentmeter(*command, "--no-remedies", "--json", "--export-dir", tmp_path / "all")
    data = json.loads(answer.out)
    assert data["allocated"] == sum(data["by_module"].values()) == 22004224
    held = [item for item in data["findings"] if item["rule"] == "dead-weight"]
    assert {item["where"].split("/")[0] for item in held} == {"diffusers", "transformers"}
    assert all(item["bytes"] == max(item["phases"].values()) for item in held)
    assert data["workload"]["placement"]["offload"] == "model"
    assert (tmp_path / "all/snapshot.pickle").exists()


@pytest.mark.usefixtures("small")
def test_remedies_are_placements_tiling_and_segments_each_estimated() -> None:
    spec = type("Spec", (), {"id": "small", "digest": ""})
    found, _ = generation_hotspots(spec, lambda _: (STACK, None), remedies=True)  # type: ignore[arg-type]
    peaks = {remedy.how: remedy.allocated for remedy in found.remedies if remedy.name == "placement"}
    assert peaks == {
        "--offload model": 22004224,
        "--offload group-block --stream": 22004224,
        "--offload group-leaf --stream": 21772288,
        "--offload sequential": 21772800,
    }
    tried = {*(remedy.how for remedy in found.remedies), *found.left_out}
    assert tried == {*peaks, "--tiling", "--slicing", "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"}
    assert found.allocated == 24624640
    assert "weights wait on the host" in next(remedy.caution for remedy in found.remedies if remedy.name == "placement")
    assert found.notes["steps"] == "few"


@pytest.mark.usefixtures("small")
def test_a_memory_is_traced_once_for_all_cards_and_told_as_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = []

    def heard(*args: Any, **how: Any) -> Any:
        traces.append(args)
        return trace_placed(*args, **how)

    monkeypatch.setattr(placed, "trace_placed", heard)
    asked: Any = {"placement": Placement(offload="model"), "torch": "2.13.0", "remedies": False}
    found, profile = api.hotspots("flux.1-dev", "generate", vram="48GiB", **asked)
    card = found.notes["stack.card"].partition("needs most: ")[2].partition(";")[0]
    assert "," in found.notes["stack.card"].partition("needs most: ")[0].partition(" of memory, ")[2]
    assert len(traces) == 1
    same, its = api.hotspots("flux.1-dev", "generate", gpu=card, vram="48GiB", **asked)
    assert (profile.events, profile.usage.kernels) == (its.events, its.usage.kernels)
    assert all(kernel.name for kernel in its.usage.kernels.values())
    assert replace(found, notes={}) == replace(same, notes={})


def test_the_timeline_has_phases_and_weights_by_component(
    hoarded: Hotspots, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [phase.name for phase in hoarded.phases] == PHASES
    assert {"transformer weights", "vae", "text_encoder_2 weights"} <= {*hoarded.timeline.groups}
    page = render_page(hoarded)
    assert page.count('<rect class="phase"') + page.count('<rect class="phase odd"') == 2 * len(PHASES)
    assert "Phases in order, every other one shaded: text encode, first step" in page
    show_hotspots(hoarded)
    out = capsys.readouterr().out
    assert "|first" in out and "|later" in out
    assert "SelfAttention (minimum), text encode of the second call; fits on NVIDIA GeForce RTX 4090\n" in out


def test_a_weight_that_an_offload_brings_counts_while_it_is_there() -> None:
    found = summarize(profiled("wan", offload="sequential"))  # which brings some weights once a step
    weights = [item for item in found.alive if item.why == "weights"]
    assert found.modules[0].weights == sum(item.bytes for item in weights)
    assert {item.because for item in weights} == {"stands before the call", "brought by the placement"}
