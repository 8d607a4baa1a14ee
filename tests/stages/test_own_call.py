"""What people hand to `estimate_call`: inputs in their own containers, offloaded pipelines, code written for a card."""

import asyncio
import re
import warnings
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import profiler
from profiler.data.records import CallEstimate
from profiler.diagnosis.call import call_hotspots
from profiler.errors import ModelError, UserError
from profiler.machine.target import target_stack
from tests.pipelines import PIPELINES

NET = nn.Linear(64, 64)
X = torch.empty(1024, 64)


def asked(function: Any, *inputs: Any, modules: Any = NET) -> CallEstimate:
    return profiler.estimate_call(function, inputs=inputs, modules=modules, gpu="rtx-4090", torch="2.13.0")


@dataclass
class Batch:
    x: torch.Tensor
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    x: torch.Tensor


Pair = namedtuple("Pair", ["x", "y"])


def encoding(x: torch.Tensor) -> Any:
    return pytest.importorskip("transformers").BatchEncoding({"x": x})


def output(x: torch.Tensor) -> Any:
    return pytest.importorskip("transformers.modeling_outputs").BaseModelOutput(last_hidden_state=x)


@pytest.mark.parametrize(
    ("hold", "take"),
    [
        (Batch, lambda held: held.x),
        (lambda x: {"deep": [Frozen(x), "text"]}, lambda held: held["deep"][0].x),
        (lambda x: Pair(x, 2), lambda held: held.x),
        (lambda x: SimpleNamespace(x=x), lambda held: held.x),
        (encoding, lambda held: held["x"]),
        (output, lambda held: held.last_hidden_state),
        (lambda x: partial(dict, x=x), lambda held: held()["x"]),
    ],
)
def test_a_tensor_is_an_input_whatever_holds_it(hold: Callable[..., Any], take: Callable[..., torch.Tensor]) -> None:
    held = hold(X)
    found, plain = asked(lambda held: NET(take(held)), held), asked(lambda x: NET(x), X)
    assert (found.terms, found.peak, found.warm) == (plain.terms, plain.peak, plain.warm)
    assert take(held) is X


def test_a_partial_function_brings_its_inputs() -> None:
    plain = asked(lambda x: NET(x), X)
    for function in (partial(lambda x: NET(x), X), partial(lambda *, x: NET(x), x=X)):
        assert asked(function).terms == plain.terms


def test_an_input_that_is_given_twice_is_there_once_and_what_can_hold_none_is_the_very_object() -> None:
    settings, seen = object(), list[Any]()

    def called(x: torch.Tensor, batch: Batch, settings: Any) -> torch.Tensor:
        seen.append((x is batch.x, settings))
        return NET(batch.x)

    assert asked(called, X, Batch(X), settings).terms.inputs == X.nbytes
    assert seen[0] == (True, settings)


async def coroutine(x: torch.Tensor) -> torch.Tensor:
    return NET(x)


def generator(x: torch.Tensor) -> Iterator[torch.Tensor]:
    yield NET(x)


async def both(x: torch.Tensor) -> AsyncIterator[torch.Tensor]:
    yield NET(x)


class Streams(nn.Module):
    def forward(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        return map(NET, [x])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("function", [coroutine, generator, both, lambda x: generator(x), Streams()])
def test_what_has_not_run_yet_is_no_answer(function: Any) -> None:
    with pytest.raises(UserError, match=r"function: its answer is .* of which nothing has run yet.*asyncio\.run"):
        asked(function, X)


def test_what_is_said_to_run_it_runs_it() -> None:
    plain = asked(lambda x: NET(x), X)
    assert asked(lambda *given: asyncio.run(coroutine(*given)), X).peak == plain.peak
    assert asked(lambda *given: list(generator(*given)), X).peak == plain.peak


def pipeline() -> Any:
    """The small FLUX with data, which alone can be offloaded by hand."""
    pytest.importorskip("transformers")
    pipe, call = PIPELINES["flux"]()
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.to_empty(device="cpu")
    return pipe, call


@pytest.mark.parametrize(
    ("offload", "named"),
    [
        (lambda pipe: pipe.enable_model_cpu_offload(device="cuda"), "model"),
        (lambda pipe: pipe.enable_group_offload("cpu", offload_type="leaf_level"), "group-leaf"),
        (lambda pipe: pipe.vae.enable_group_offload("cpu", offload_type="leaf_level"), "group-leaf"),
        (lambda pipe: pytest.importorskip("accelerate").cpu_offload(pipe.transformer, "cuda"), "sequential"),
    ],
)
def test_a_pipeline_that_is_offloaded_already_is_refused_with_the_placement_to_ask_for(
    offload: Callable[[Any], Any], named: str
) -> None:
    pipe, call = pipeline()
    offload(pipe)
    said = rf"offloaded already, by \w+: .*placement=profiler\.Placement\(offload='{named}'\)"
    with pytest.raises(UserError, match=said):
        profiler.estimate_call(pipe, inputs=call, gpu="rtx-4090")
    part = pipe.vae if named == "group-leaf" else pipe.transformer
    if named != "model":  # which brings a component as a whole
        with pytest.raises(UserError, match=said):
            asked(lambda: None, modules=part)


def test_a_pipeline_among_modules_is_to_be_given_itself() -> None:
    pytest.importorskip("transformers")
    pipe, _ = PIPELINES["flux"]()
    for modules in ({"pipe": pipe}, [pipe]):
        with pytest.raises(
            UserError, match=r"modules: .*FluxPipeline is not a Module.*a pipeline is given itself, as `modules=pipe`"
        ):
            asked(lambda: None, modules=modules)


def test_a_stage_of_a_whole_generation_is_asked_of_generate() -> None:
    for stage in ("generate", "sample"):
        with pytest.raises(UserError, match=rf"no stage '{stage}'; .*profiler\.generate has others"):
            profiler.estimate("sd1.5", stage)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["module", "weight"])
def test_quantised_weights_are_refused(where: str) -> None:
    """As bitsandbytes' layers, which are modules of its own, and torchao's, whose weights are."""
    kind: Any = nn.Linear if where == "module" else nn.Parameter
    made = type("Theirs", (kind,), {"__module__": "torchao.dtypes.affine_quantized_tensor"})
    net = nn.Sequential(made(64, 64) if where == "module" else nn.Linear(64, 64))
    if where == "weight":
        net[0].weight = made(torch.empty(64, 64))
    with pytest.raises(UserError, match="modules: 0 is quantised by torchao, which is not covered: give it in"):
        asked(net, X, modules=None)


class Kept(nn.Module):
    """With a tensor of its own that is no buffer, made where its weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.shift = nn.Parameter(torch.empty(1024, 64)), torch.empty(1024, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight + self.shift


def test_a_tensor_that_nobody_named_is_counted_or_refused() -> None:
    with torch.device("meta"):
        net = Kept()
    found, shift = asked(net, X, modules=None), net.shift
    assert found.terms.weights == 2 * X.nbytes
    assert net.shift is shift
    with pytest.raises(ModelError, match=r"found cuda:0 and meta .*: name every module in `modules`, every tensor in"):
        asked(lambda x: x + shift, X)


def test_what_comes_back_to_the_host_is_no_output_of_the_card() -> None:
    found = asked(lambda x: NET(x).cpu().numpy(), X)
    assert found.peak.allocated_bytes == asked(lambda x: NET(x), X).peak.allocated_bytes
    assert found.terms.outputs == 0


def on_the_card(x: torch.Tensor) -> torch.Tensor:
    """As a script is written that a card runs."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert x.is_cuda
    assert NET.weight.device.type == device.type == "cuda"
    torch.cuda.reset_peak_memory_stats()
    started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    started.record()
    answer = NET.to(device).cuda()(x.to(device).cuda().to("cuda", torch.float32, non_blocking=True))
    torch.cuda.synchronize()
    ended.record()
    assert started.elapsed_time(ended) == 0
    return answer


def test_what_moves_to_the_card_is_there_already() -> None:
    plain, found = asked(lambda x: NET(x), X), asked(on_the_card, X)
    assert (found.terms, found.peak, found.events) == (plain.terms, plain.peak, plain.events)
    stack = target_stack("rtx-4090", "2.13.0", None)
    assert call_hotspots(on_the_card, [X], NET, None, *stack).allocated == plain.peak.allocated_bytes


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="a CUDA build has such devices, if no card")
def test_what_moves_to_a_card_fails_where_the_estimate_is_of_the_cpu() -> None:
    stack = target_stack("rtx-4090", "2.13.0", None)
    with pytest.raises(ModelError, match="support for cuda devices"):
        profiler.estimate_call(lambda x: x.cuda(), inputs=[X], modules=NET, stack=replace(stack[0], device="cpu"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(1024, 64, device="cuda:0"),
        lambda: torch.tensor([0.0], device="cuda").expand(1024, 64) + torch.zeros(1024, 1, device=torch.device("cuda")),
        lambda: torch.randn(1024, 64, device="cuda", generator=torch.Generator("cuda").manual_seed(0)),
        lambda: torch.zeros(1024, 64).to("cuda"),
    ],
)
def test_what_is_made_on_the_card_is_an_activation(make: Callable[[], torch.Tensor]) -> None:
    assert asked(lambda: NET(make())).terms.activations >= X.nbytes


def test_another_stream_has_a_pool_of_its_own() -> None:
    def called(x: torch.Tensor) -> torch.Tensor:
        with torch.cuda.stream(torch.cuda.Stream()):
            return NET(x)

    plain, found = asked(lambda x: NET(x), X), asked(called, X)
    assert found.peak.allocated_bytes == plain.peak.allocated_bytes
    assert found.peak.reserved_bytes > plain.peak.reserved_bytes


def fails(x: torch.Tensor) -> torch.Tensor:
    return NET({"x": x}["y"])  # the line that is named


def unfinished(x: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


def test_an_error_of_ones_own_code_has_its_kind_and_its_line() -> None:
    line = fails.__code__.co_firstlineno + 1
    with pytest.raises(ModelError, match=re.escape(f"data: KeyError: 'y' (test_own_call.py, line {line})")):
        asked(fails, X)
    with pytest.raises(ModelError, match=r"data: TypeError: .*forward\(\) missing 1 required .*: 'input'$"):
        asked(NET, modules=None)
    with pytest.raises(ModelError, match=r"data: NotImplementedError \(test_own_call"):
        asked(unfinished, X)


def test_an_error_within_a_pipelines_call_too() -> None:
    pytest.importorskip("transformers")
    pipe, _ = PIPELINES["flux"]()
    with pytest.raises(ModelError, match=r"the call fails without data: KeyError: 'y' \(test_own_call.py, line \d+\)"):
        asked(lambda: fails(X), modules=pipe)


ENCODER = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, batch_first=True), 2)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (nn.LSTM(64, 64), "; first LSTM"),
        (nn.Sequential(nn.Identity(), nn.GRU(64, 64)), "; first GRU 1"),
        (nn.Sequential(nn.RNNCell(64, 64)), "; first RNNCell 0"),
        (ENCODER.eval(), "; first TransformerEncoderLayer layers.0"),
    ],
)
def test_what_a_card_fuses_is_told(net: nn.Module, said: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch says so where it has no cuDNN; where it has one it asks the driver
        found = asked(net, torch.empty(16, 64), modules=None)
    assert found.notes["fused"].startswith("run by fused kernels on a card, here operation by operation")
    assert found.notes["fused"].endswith(said)
    assert "fused" not in asked(nn.Sequential(ENCODER.train()), torch.empty(16, 64), modules=None).notes
    ENCODER.eval()


def switched(x: torch.Tensor) -> torch.Tensor:
    torch.set_autocast_enabled("cuda", True)
    try:
        return NET(x)
    finally:
        torch.set_autocast_enabled("cuda", False)


def within(x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cuda"):
        return NET(x)


def test_autocast_that_is_switched_by_hand_is_told() -> None:
    assert asked(switched, X).notes["autocast"].startswith("set_autocast_enabled is not followed")
    assert "autocast" not in asked(within, X).notes


class Compiled(nn.Module):
    """With a method that is compiled, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.net = NET

    @torch.compile
    def fast(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    @torch.compiler.disable
    def slow(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def forward(self, x: torch.Tensor, how: str) -> torch.Tensor:
        return getattr(self, how)(x)


helper = torch.compile(lambda x: NET(x))


def test_what_is_compiled_within_is_told() -> None:
    assert asked(lambda x: helper(x), X).notes["compile"].startswith("torch.compile is not covered")
    assert "compile" in asked(Compiled(), X, "fast", modules=None).notes
    assert "compile" not in asked(Compiled(), X, "slow", modules=None).notes


def test_layerwise_casting_is_told() -> None:
    net: Any = pytest.importorskip("diffusers").UNet2DModel(
        block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2
    )
    given = {"sample": torch.empty(1, 3, 32, 32), "timestep": 1}
    assert "casting" not in profiler.estimate_call(net, inputs=given, gpu="rtx-4090").notes
    net.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert "layerwise casting is traced" in profiler.estimate_call(net, inputs=given, gpu="rtx-4090").notes["casting"]
