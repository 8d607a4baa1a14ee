"""Calls that are copied leave the same births and deaths as calls that are traced, or are not copied."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn

from profiler.data.workload import MemoryOptions
from profiler.estimation import estimator
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.models.find import find_model
from profiler.stages.stage import Stage
from profiler.trace.trace import Trace

TINY = Path(__file__).parent.parent / "models"
STACK = assumed_stack(find_gpu("h200"), "2.13.0")
Story = tuple[list[int], list[tuple[Any, ...]], dict[str, int], set[int]]


def story(trace: Trace) -> Story:
    """Everything that a trace says."""
    blocks = [
        (b.bytes, b.shape, b.dtype, b.term, b.phase, b.born, b.died, trace.ops[b.op] if b.op >= 0 else None)
        for b in trace.blocks
    ]
    return [*trace.events], blocks, dict(trace.routes), trace.cache_emptied_at


def trace_of(root: nn.Module, call: Callable[[], Any], *, repeats: bool = True) -> tuple[Story, int]:
    """The story of `call`, and how many ops were looked at."""
    trace = Trace(STACK, repeats=repeats)
    seen: Counter[Any] = Counter()
    execute = trace.execute

    def counted(func: Any, args: Any, kwargs: Any) -> Any:
        seen[func] += 1
        return execute(func, args, kwargs)

    trace.execute = counted  # type: ignore[method-assign]
    trace.track(list(root.parameters()))
    emptied = patch.object(torch.cuda, "empty_cache", trace.empty_cache)
    with torch.inference_mode(), emptied, trace.during("cold", "activations", root):
        kept = call()
    told = story(trace)
    del kept
    return told, seen.total()


def both(make: Callable[[], tuple[nn.Module, Callable[[], Any]]]) -> tuple[int, int]:
    """Ops looked at with and without copying, after a check that the stories are the same."""
    (copied, few), (traced, many) = (trace_of(*make(), repeats=repeats) for repeats in (True, False))
    assert copied == traced
    return few, many


MANY = 2_000_000  # elements: of smaller tensors a trace knows the content, and then a call's result is not copied


def z(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


@pytest.mark.parametrize(
    ("model", "stage", "size", "tiled"),
    [
        (str(TINY / "tiny-image.yaml"), "roundtrip", {"height": 64, "width": 48}, True),
        (str(TINY / "tiny-image.yaml"), "denoise", {}, False),
        (str(TINY / "tiny-video.yaml"), "decode", {"frames": 25}, False),
        (str(TINY / "tiny-video.yaml"), "roundtrip", {"frames": 5, "height": 288, "width": 320}, True),
        (str(TINY / "tiny-video.yaml"), "denoise", {}, False),
        (str(TINY / "tiny-temporal.yaml"), "decode", {}, False),  # fake tensors
        ("cogvideox-5b", "decode", {"frames": 17, "height": 256, "width": 256}, False),
        ("hunyuan-video", "encode", {"frames": 17, "height": 320, "width": 320}, True),
        ("hunyuan-video-1.5", "decode", {"frames": 5, "height": 512, "width": 512}, True),
        ("wan2.1-t2v-1.3b", "encode", {"frames": 9, "height": 320, "width": 320}, True),
        ("ltx-video-2b", "denoise", {}, False),
    ],
)
def test_models(model: str, stage: Any, size: dict[str, int], tiled: bool) -> None:
    spec = find_model(model)
    workload = spec.workload(stage, options=MemoryOptions(tiling=tiled), **size)
    stories = []
    for repeats in (True, False):
        watched = estimator.trace_stage(workload, spec, STACK, partial(Trace, repeats=repeats))
        stories.append(story(watched.trace))
    assert stories[0] == stories[1]


class Emptying(nn.Module):
    """Empties the cache before, amid and after what it makes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.cuda.empty_cache()
        x = x * 2
        torch.cuda.empty_cache()
        x = x * 2
        torch.cuda.empty_cache()
        return x


def test_a_cache_that_a_call_empties_is_emptied_by_its_copies() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        module = Emptying()
        return nn.Sequential(module), lambda: [(z(64), module(z(MANY)), z(64)) for _ in range(4)]

    few, many = both(make)
    assert few == many - 3 * 2  # ops of its later calls


def test_a_cache_that_was_empty_before_a_call_is_emptied_by_the_next() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        module = Emptying()

        def run() -> list[Any]:
            x = z(MANY)
            torch.cuda.empty_cache()
            return [x, module(x), *[(z(64), module(z(MANY)), z(64)) for _ in range(3)]]

        return nn.Sequential(module), run

    both(make)


def test_a_coder_whose_result_somebody_else_takes_is_traced() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        coder, kept = Repeated(), list[torch.Tensor]()
        coder.register_forward_hook(lambda _, __, result: kept.append(result))
        pipe = nn.ModuleDict({"vae": nn.ModuleDict({"decoder": coder})})
        return pipe, lambda: ([coder(z(MANY)) is None for _ in range(3)], kept)

    few, many = both(make)
    assert few == many


class Blending(nn.Module):
    """Joins tiles as a VAE does, by a method that is no module's call."""

    def blend_v(self, above: torch.Tensor, below: torch.Tensor, extent: int) -> torch.Tensor:
        for row in range(extent):
            below[row] = above[-extent + row] * (1 - row / extent) + below[row] * (row / extent)
        return below


@pytest.mark.parametrize("is_part", [False, True])
def test_tiles_that_are_blended_alike_are_blended_once(is_part: bool) -> None:
    """By the root, or by the VAE of a pipeline."""

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        vae = Blending()
        root = nn.ModuleDict({"vae": vae}) if is_part else vae
        return root, lambda: [vae.blend_v(z(8, MANY), z(8, MANY), 4) for _ in range(5)]

    few, many = both(make)
    assert many - few > 4 * 4


class Named(nn.Module):
    """Gives back what transformers' encoders do."""

    def forward(self, x: torch.Tensor) -> Any:
        output = pytest.importorskip("transformers").modeling_outputs.BaseModelOutput
        return output(last_hidden_state=x * 2, hidden_states=(x, x + 1))


def test_an_output_with_names_is_copied_as_it_is() -> None:
    kept: list[Any] = []

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        module = Named()
        kept.clear()
        return nn.Sequential(module), lambda: kept.extend(module(z(MANY)) for _ in range(3))

    few, many = both(make)
    assert few == many - 2 * 2
    found = trace_of(*make()) and kept[2]
    assert type(found).__name__ == "BaseModelOutput" and found.hidden_states[1].shape == (MANY,)
    assert found.last_hidden_state is found[0]


class Repeated(nn.Module):
    """Scales as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.times = [1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.times[0]):
            x = x * 2
        return x


def test_a_module_whose_list_is_no_longer_empty_is_traced_anew() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        module = Repeated()
        module.times, more = [], module.times
        module.forward = lambda x: [x * 2 for _ in (0, *module.times)][-1]  # type: ignore[method-assign]

        def run() -> list[Any]:
            results = [module(z(MANY)) for _ in range(3)]
            module.times += more
            return [*results, module(z(MANY)), module(z(MANY))]

        return nn.Sequential(module), run

    few, many = both(make)
    assert few < many


def test_a_module_that_the_root_calls_again_is_traced_once() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(nn.TransformerEncoderLayer(16, 2, 32).eval()).to("meta")
        return model, lambda: [model[0](z(2, 2**16, 16)) for _ in range(12)]

    few, many = both(make)
    assert few < many / 3


def test_a_module_whose_attribute_was_changed_is_traced_again() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        module = Repeated()

        def run() -> None:
            for times in (1, 1, 3, 3):
                module.times[0] = times
                module(z(MANY))

        return nn.Sequential(module), run

    assert both(make) == (4 + 4, 4 + 8)


def test_a_call_that_frees_what_somebody_else_may_hold_is_copied_as_it_is_then() -> None:
    """The first time the cache's tensor dies in the call, the second time somebody else holds it, and the reverse."""

    def make(held: int) -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Cached())

        def run() -> list[Any]:
            cache: list[Any] = [None]
            others = []
            for chunk in range(5):
                if chunk >= held:
                    others.append(cache[0])
                model[0](z(4, MANY), cache, [0])
            return others

        return model, run

    for held in range(4):
        both(partial(make, held))


class Keeps(nn.Module):
    """Keeps its input in a place of its own."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place
        self.last: Any = None
        self.all: list[Any] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        if self.place == "attribute":
            self.last = y
        elif self.place == "list":
            self.all.append(y)
        elif self.place == "counter":
            self.all[:] = [*self.all, 0][:3]
            y = y.repeat(len(self.all))
        return y * 2


@pytest.mark.parametrize("place", ["attribute", "list", "counter"])
def test_a_module_that_remembers_is_not_copied(place: str) -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Keeps(place))
        return model, lambda: [model[0](z(MANY)) for _ in range(6)]

    both(make)


class Cached(nn.Module):
    """As the causal convolutions of video VAEs: what it needs of a chunk it puts into the caller's list."""

    def forward(self, x: torch.Tensor, cache: list[Any], index: list[int]) -> torch.Tensor:
        old = cache[index[0]]
        new = x[-2:].clone()
        y = x.sin() if old is None else torch.cat([old, x]).sin()
        cache[index[0]] = new
        index[0] += 1
        del old
        return y.cos()[1:]


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_call_puts_into_a_list_replaces_what_was_there(shared: bool) -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Cached())

        def run() -> list[torch.Tensor]:
            cache: list[Any] = [None]
            others = []
            for chunk in range(8):
                out = model[0](z(4, MANY), cache, [0])
                if shared and chunk % 2:
                    others.append(cache[0])  # the next call lets go of a tensor that lives on
            return [out, *others]

        return model, run

    few, many = both(make)
    assert few < many


def test_results_that_are_arguments_or_views_of_them() -> None:
    class Views(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[Any, ...]:
            return x, x[1:, 2:4].t(), {"y": [y * 2, (y + 1)[3:]]}

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Views())

        def run() -> Any:
            kept = []
            for start in range(4):
                x, view, rest = model[0](z(30, MANY)[start : start + 5], z(MANY))
                assert (view.shape, view.stride(), view.storage_offset()) == ((2, 4), (1, MANY), MANY * (start + 1) + 2)
                assert (rest["y"][0].shape, rest["y"][1].shape) == ((MANY,), (MANY - 3,))
                kept += [view, rest["y"][1]]
                del x
            return kept

        return model, run

    few, many = both(make)
    assert few < many


def test_a_module_that_frees_what_others_made_is_not_copied() -> None:
    store: list[Any] = []

    class Frees(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            store.clear()
            return y

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Frees())

        def run() -> Any:
            for _ in range(4):
                store.append(z(MANY))
                out = model[0](z(MANY))
            return out

        return model, run

    both(make)


class Calls(nn.Module):
    """Calls a function that the test gives."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def test_what_is_kept_elsewhere_is_not_copied() -> None:
    store: list[Any] = []

    def keep_half(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        store.append(y[1:])
        return y + 1

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        store.clear()
        model = nn.Sequential(Calls(keep_half))
        return model, lambda: [model[0](z(MANY)) for _ in range(3)]

    few, many = both(make)
    assert few == many


def test_a_list_that_grows_and_an_argument_that_changes_shape_are_not_copied() -> None:
    def grow(x: torch.Tensor, kept: list[Any]) -> None:
        kept.append(x * 2)
        x.unsqueeze_(0)

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Calls(grow))

        def run() -> Any:
            inputs = [z(MANY) for _ in range(3)]
            kept: list[Any] = []
            for x in inputs:
                model[0](x, [])
                model[0](x, kept)
            assert (len(kept), inputs[2].dim()) == (3, 3)
            return kept

        return model, run

    both(make)


def test_a_list_in_a_list_that_is_replaced_is_let_go_at_its_time() -> None:
    def renew(x: torch.Tensor, kept: list[Any]) -> torch.Tensor:
        kept[0] = [x * 2]
        return x + 1

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Calls(renew))

        def run() -> Any:
            kept: list[Any] = [[z(MANY)]]
            first = kept[0]
            return [model[0](z(MANY), kept) for _ in range(3)], first

        return model, run

    both(make)


def test_arguments_in_one_block_are_not_taken_for_arguments_in_two() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Calls(lambda x, y: y[1:]))

        def run() -> Any:
            x, y = z(MANY), z(MANY)
            model[0](x, x)
            kept = model[0](x, y)  # lies in y alone
            del x
            other = z(MANY)
            del y
            return kept, other

        return model, run

    both(make)


def test_a_result_whose_values_are_known_is_not_copied() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Calls(lambda x: torch.arange(len(x), device="meta")))
        return model, lambda: [model[0](z(5, MANY)).tolist() for _ in range(3)]

    both(make)


def test_the_first_product_takes_the_workspace_and_later_ones_do_not() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(nn.Linear(2000, 8, device="meta"))
        return model, lambda: [model[0](z(1000, 2000)) for _ in range(4)]

    few, many = both(make)
    assert few < many


def test_a_call_of_an_earlier_phase_is_not_taken_for_one_of_this_phase() -> None:
    phases = []
    for repeats in (True, False):
        model, trace = nn.Sequential(nn.ReLU()), Trace(STACK, repeats=repeats)
        for phase in ("earlier", "cold"):
            with torch.inference_mode(), trace.during(phase, "activations", model):
                model[0](z(MANY))
        phases.append([block.phase for block in trace.blocks])
    assert phases[0] == phases[1]


def test_a_call_that_reads_values_is_copied_only_for_the_same_values() -> None:
    class Reads(nn.Module):
        def forward(self, x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            for _ in range(int(times.sum())):
                x = x * 2
            return x

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Reads())

        def run() -> None:
            counts = torch.arange(4, device="meta")
            for at in (1, 3, 1, 3):
                model[0](z(MANY), counts[at : at + 1])

        return model, run

    few, many = both(make)
    assert few < many


def test_blends_of_tiles_are_calls_and_the_model_is_left_as_it_was() -> None:
    spec = find_model(str(TINY / "tiny-image.yaml"))
    stage = Stage(spec.workload("decode", height=128, width=128, options=MemoryOptions(tiling=True)), spec)
    before = dict(vars(stage.module))
    assign, call = nn.Module.__setattr__, nn.Module.__call__
    trace = Trace(STACK)
    with trace.during("cold", "activations", stage.module):
        assert "blend_v" in vars(stage.module)
        assert nn.Module.__setattr__ is assign
    assert vars(stage.module) == before
    assert nn.Module.__call__ is call


def test_what_a_module_drops_dies_though_its_attributes_were_looked_at() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.empty(MANY, device="meta"), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + self.table
            self._parameters["table"] = None
            return y * 2

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        root = nn.Sequential(Drops())
        return root, lambda: root[0](torch.empty(MANY, device="meta"))

    both(make)


class Layers(nn.Module):
    """Layers that scale, each as often as it is told."""

    def __init__(self, times: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(16, 16), Repeated()) for _ in times)
        for layer, each in zip(self.layers, times, strict=True):
            layer[1].times = [each]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def layered(times: list[int]) -> tuple[nn.Module, Callable[[], Any]]:
    model = Layers(times).to("meta")
    return model, lambda: model(z(2**17, 16))


def test_layers_that_are_made_alike_are_traced_once_and_each_has_its_own_name() -> None:
    few, many = both(lambda: layered([1] * 12))
    assert few < many / 3
    (_, blocks, *_), _ = trace_of(*layered([1] * 12))
    assert [place[0] for *_, place in blocks if place and place[1] == "aten.mul.Tensor"] == [
        f"layers.{n}.1" for n in range(12)
    ]


def test_a_layer_that_is_made_otherwise_is_traced() -> None:
    few, many = both(lambda: layered([1, 3, 1, 3]))
    assert few < many


def test_a_layer_whose_result_somebody_else_takes_is_traced() -> None:
    """As transformers collects hidden states: a hook on each layer keeps what it returns."""

    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model, call = layered([1] * 4)
        kept: list[torch.Tensor] = []

        def keep(_: Any, __: Any, result: torch.Tensor) -> None:
            kept.append(result)

        for layer in model.layers:  # type: ignore[union-attr]
            layer.register_forward_hook(keep)
        return model, lambda: (call(), call(), kept)

    few, many = both(make)
    assert few == many


class Positions(nn.Module):
    """Gives a part of its own weight, as a position table does."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Linear(16, MANY // 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table.weight[: x.shape[0]]


def test_a_module_that_gives_its_own_weight_is_traced_again() -> None:
    def make() -> tuple[nn.Module, Callable[[], Any]]:
        model = nn.Sequential(Positions()).to("meta")
        return model, lambda: [model[0](z(2**17, 16)) for _ in range(3)]

    both(make)
