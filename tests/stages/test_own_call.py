"""What people hand to `estimate_call`: inputs in their own containers, offloaded pipelines, code written for a card."""

import asyncio
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import profiler
from profiler.data.records import CallEstimate
from profiler.errors import UserError
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


def test_an_input_that_is_given_twice_is_there_once_and_what_holds_none_is_the_very_object() -> None:
    settings, seen = SimpleNamespace(steps=[3]), list[Any]()

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
    said = rf"offloaded already, by \w+, .*placement=profiler\.Placement\(offload='{named}'\)"
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
        with pytest.raises(UserError, match=r"modules: a FluxPipeline stands for all of its own: .*`modules=pipe`"):
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
    with pytest.raises(
        UserError, match="modules: 0 is quantised by torchao, whose kernels are not covered: give it in"
    ):
        asked(net, X, modules=None)
