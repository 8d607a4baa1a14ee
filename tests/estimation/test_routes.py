"""Options that change which kernels run: autocast with its kept weights, cudnn.benchmark, attention of other packages."""

from pathlib import Path

import pytest
import torch
from torch import nn

import profiler
from profiler.data.records import Estimate
from profiler.data.stack import Stack
from profiler.data.workload import MemoryOptions, StageName
from profiler.errors import ModelError, UserError
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.trace import Trace

IMAGE = str(Path(__file__).parent.parent / "models" / "tiny-image.yaml")


def on_h200(stage: StageName, model: str = IMAGE, **options: object) -> Estimate:
    return profiler.estimate(model, stage, gpu="h200", dtype="fp32", options=MemoryOptions(**options))  # type: ignore[arg-type]


def traced(module: nn.Module, x: torch.Tensor, *, calls: int = 1) -> Trace:
    trace = Trace(assumed_stack(find_gpu("h200")))
    with trace.during("cold", "activations"), torch.inference_mode(), torch.autocast("meta", torch.bfloat16):
        for _ in range(calls):
            module(x)
    return trace


def test_autocast_runs_a_linear_in_16_bit_and_keeps_its_weights_to_the_end() -> None:
    module, x = nn.Linear(64, 32, device="meta"), torch.empty(8, 64, device="meta")
    once, twice = traced(module, x), traced(module, x, calls=2)
    casts = {b.shape: b for b in once.blocks if b.dtype == "bfloat16"}
    assert set(casts) == {(8, 64), (32, 64), (32,), (8, 32)}
    last = max(b.died or 0 for b in casts.values())
    assert casts[32, 64].died is not None
    assert casts[32, 64].died >= last - 1
    assert sum(b.shape == (32, 64) for b in twice.blocks) == 1  # the second call finds it


def test_a_kept_weight_that_wants_a_gradient_makes_matmul_copy_a_transposed_input() -> None:
    """Cast, copy and product of 25,600 B each: an RTX 4090's record, torch 2.11.0 to 2.13.0 (dry runs of 2026-11-26)."""
    module, x = nn.Linear(64, 64, device="meta"), torch.empty(2, 64, 100, device="meta").transpose(1, 2)
    assert [b.bytes for b in traced(module, x).blocks].count(25600) == 3
    module.requires_grad_(False)
    assert [b.bytes for b in traced(module, x).blocks].count(25600) == 2


def test_autocast_keeps_no_weight_that_wants_no_gradient() -> None:
    module = nn.Linear(64, 32, device="meta").requires_grad_(False)
    trace = traced(module, torch.empty(8, 64, device="meta"), calls=2)
    assert sum(b.shape == (32, 64) for b in trace.blocks) == 2


def test_autocast_normalises_in_32_bit_and_sums_into_it() -> None:
    x = torch.empty(2, 8, 4, 4, device="meta", dtype=torch.bfloat16)
    normed = traced(nn.GroupNorm(2, 8, device="meta"), x)
    assert [b.dtype for b in normed.blocks if b.shape == (2, 8, 4, 4)] == ["float32", "float32"]
    summed = traced(nn.Softmax(dim=1), x)
    assert [b.dtype for b in summed.blocks] == ["float32", "float32"]  # the input cast, and the result
    added = traced(nn.ReLU(), x)
    assert [b.dtype for b in added.blocks] == ["bfloat16"]  # not on any list: as it is


class Casting(nn.Module):
    """A layer in fp16, one within as it is, one in bf16: by the device of its input, as models write it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        with torch.autocast(x.device.type, torch.float16):
            low = self.first(x)
            with torch.autocast(device_type=x.device.type, enabled=False):
                same = self.last(low.float())
        with torch.amp.autocast("cuda", enabled=False), torch.autocast("cuda", torch.bfloat16):
            return [low, same, self.last(x)]


def test_a_module_may_cast_by_itself() -> None:
    """As in dry CUDA (torch 2.13.0, an RTX 4090's record, 2026-11-28), in inference mode and under no_grad."""
    stack = assumed_stack(find_gpu("rtx-4090"), "2.13.0")
    found = profiler.estimate_call(Casting(), inputs=[torch.empty(512, 64)], stack=stack)
    assert found.peak.allocated_bytes == found.warm.allocated_bytes == 9_020_928


def test_a_cast_on_a_cpu_is_refused() -> None:
    def cast(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return x @ x

    with pytest.raises(ModelError, match="autocast: only CUDA's casts are modelled"):
        profiler.estimate_call(
            cast, modules=nn.Linear(2, 2), inputs=[torch.empty(8, 8)], stack=Stack(device="cpu", torch="2.13.0")
        )
    assert torch.autocast_decrement_nesting() == -1 and torch.autocast_increment_nesting() == 0  # none is left open


def test_a_model_under_autocast_takes_less_than_in_32_bit() -> None:
    plain, cast = on_h200("denoise"), on_h200("denoise", autocast="bf16")
    assert cast.terms.weights == plain.terms.weights
    assert cast.options["autocast"].applied
    assert cast.peak != plain.peak


def test_autocast_of_16_bit_weights_is_not_applied_and_the_cpu_refuses_it() -> None:
    options = MemoryOptions(autocast="bf16")
    with pytest.raises(UserError, match="autocast is for fp32 ones"):
        profiler.estimate(IMAGE, "decode", gpu="h200", dtype="bf16", options=options)
    with pytest.raises(UserError, match="only CUDA's casts are modelled"):
        profiler.estimate(IMAGE, "decode", stack=Stack(device="cpu", torch="2.13.0"), dtype="fp32", options=options)
    with pytest.raises(UserError, match="only CUDA's casts"):
        profiler.measure(IMAGE, "decode", device="cpu", dtype="fp32", options=options)


def test_a_benchmark_empties_the_cache_at_each_new_convolution_and_not_again() -> None:
    plain, timed = on_h200("decode", "sd1.5"), on_h200("decode", "sd1.5", benchmark=True)
    assert timed.peak.allocated_bytes == plain.peak.allocated_bytes
    assert timed.peak.reserved_bytes != plain.peak.reserved_bytes
    assert timed.events > plain.events
    assert timed.warm is not None
    assert timed.warm.allocated_bytes == plain.warm.allocated_bytes  # type: ignore[union-attr]


def test_flash_attention_of_another_package_is_priced_and_sage_is_said_to_be_unknown() -> None:
    flash = profiler.estimate("flux.1-dev", "denoise", gpu="h200", options=MemoryOptions(attention_backend="flash"))
    assert flash.routes["attention flash-attn"] == 57
    assert "peak.allocated_bytes" not in flash.notes
    sage = profiler.estimate("flux.1-dev", "denoise", gpu="h200", options=MemoryOptions(attention_backend="sage"))
    assert sage.notes["peak.allocated_bytes"].startswith("at least: what sage's kernels borrow is not known")


class Keeping(nn.Module):
    """Keeps what it made, and moves a tensor of its own to where its input is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.factor, self.made = nn.Linear(8, 8), torch.ones(8), list[torch.Tensor]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.factor = self.factor.to(x.device)
        self.made.append(self.layer(x) * self.factor)
        return torch.cat(self.made)


def test_a_module_holds_afterwards_what_it_held() -> None:
    module, x = Keeping(), torch.ones(2, 8)
    first, second = (profiler.estimate_call(module, inputs=[x], gpu="rtx-4090") for _ in range(2))
    assert first.peak == second.peak
    assert module(x).shape == (2, 8)


def test_the_function_may_be_a_class() -> None:
    class Product:
        def __init__(self, x: torch.Tensor) -> None:
            self.found = x @ x

    found = profiler.estimate_call(Product, modules=nn.Linear(2, 2), inputs=[torch.empty(64, 64)], gpu="rtx-4090")
    assert found.peak.allocated_bytes > 2 * 64 * 64 * 4


def test_a_weight_of_a_module_that_was_not_named_is_an_error_as_on_a_card() -> None:
    named, other = nn.Linear(8, 8), nn.Linear(8, 8)
    said = r"found cuda:0 and cpu \(test_routes.py, line \d+\): name every module in `modules`"
    with pytest.raises(ModelError, match=said):
        profiler.estimate_call(lambda x: other(named(x)), modules=named, inputs=[torch.ones(2, 8)], gpu="rtx-4090")
    profiler.estimate_call(lambda x: other(named(x)), modules=[named, other], inputs=[torch.ones(2, 8)], gpu="rtx-4090")


def test_casts_of_a_users_weights_are_kept_until_the_context_ends() -> None:
    """Eight layers, whose casts stay until the context ends: half as much again as they take themselves."""
    layers = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(8)))

    def cast(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            found: torch.Tensor = layers(x)
            return found

    plain = profiler.estimate_call(layers, inputs=[torch.empty(1, 1024)], gpu="rtx-4090")
    found = profiler.estimate_call(cast, modules=layers, inputs=[torch.empty(1, 1024)], gpu="rtx-4090")
    assert 15 << 20 < found.peak.allocated_bytes - plain.peak.allocated_bytes <= 16 << 20
