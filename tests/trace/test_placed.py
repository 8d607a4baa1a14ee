"""Between card and host: births and deaths as torch 2.13.0+cu130 made them in dry CUDA on an H200 (2026-11-26).

A birth is its bytes, a death is minus the birth's number, counted from 1; the result lives.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace import placed
from profiler.trace.placed import PlacedTrace

CARD = "cuda"


def events(op: Callable[..., torch.Tensor], *shape: int, on: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """What a trace notes for `op` of a tensor of `shape` that lies on a device."""
    trace = PlacedTrace(assumed_stack(find_gpu("h200"), "2.13.0"))
    with trace.during("cold", "activations"):
        x = torch.empty(shape, dtype=dtype, device=on)
        trace.values.forget(x.untyped_storage()._cdata)
        first, begin = len(trace.blocks), len(trace.events)
        result = op(x)
        happened = trace.events[begin:]
    assert isinstance(result, torch.Tensor)
    return [trace.blocks[n].bytes if n >= 0 else first - 1 - ~n for n in happened]


@pytest.mark.parametrize(
    "op",
    [lambda x: x.gt(0).sum(dim=1), torch.min, lambda x: x @ x.mT, lambda x: torch.cumsum(x, 0), lambda x: x.nonzero()],
)
def test_what_runs_on_the_host_borrows_nothing_of_the_card(op: Callable[..., torch.Tensor]) -> None:
    assert events(op, 4, 512) == []


def test_a_product_on_the_host_is_not_the_cards_first() -> None:
    def product(x: torch.Tensor) -> torch.Tensor:
        x @ x
        there = x.to(CARD)
        return there @ there

    assert events(product, 8, 8) == [256, 256, 33554432, -1]  # cuBLAS keeps its workspace


def test_a_mask_may_be_made_within_vmap() -> None:
    """There a tensor has no storage of its own: transformers' masks ask for its device, and so does flex attention."""

    def above(row: torch.Tensor) -> torch.Tensor:
        return row.gt(0) & row.new_ones((), dtype=torch.bool, device=row.device)

    assert events(torch.vmap(above), 4, 512, on=CARD) == [2048, 4, 2048, -1, -2]  # H200, dry CUDA of 2026-11-27
    twice = torch.vmap(torch.vmap(lambda x: x.gt(0) & torch.ones((), device=CARD).gt(0).to(x.device)))
    assert events(twice, 4, 512, on=CARD) == [2048, 4, 1, -2, 2048, -1, -3]


def test_a_number_that_is_set_where_others_say_is_a_tensor_of_the_card() -> None:
    def change(x: torch.Tensor) -> torch.Tensor:
        x[torch.arange(3, device=CARD)] = 1
        return x

    assert events(change, 4, 512, on=CARD) == [24, 4, -2, -1]  # H200, dry CUDA of 2026-11-27


def test_what_lies_otherwise_is_copied_on_its_way_to_the_card() -> None:
    def to_card(x: torch.Tensor, *dtype: torch.dtype) -> torch.Tensor:
        return x.to(CARD, *dtype)

    image, half = (1, 64, 64, 3), torch.float16
    assert events(lambda x: to_card(x.permute(0, 3, 1, 2), half), *image) == [24576, 24576, -2]
    assert events(lambda x: to_card(x.permute(0, 3, 1, 2)), *image) == [49152]
    assert events(lambda x: to_card(x, half), *image) == [24576]
    assert events(lambda x: to_card(x[:, :, :32], half), 1, 64, 64) == [4096]


def test_what_lies_otherwise_is_copied_on_its_way_to_the_host() -> None:
    shape = (4, 64, 64)
    assert events(lambda x: x[:, :32, :32].cpu(), *shape, on=CARD) == [16384, -1]
    assert events(lambda x: x.permute(2, 0, 1).cpu(), *shape, on=CARD) == []
    assert events(lambda x: x.permute(2, 0, 1).to("cpu", torch.float16), *shape, on=CARD) == [65536, -1]
    assert events(lambda x: x.to("cpu", torch.float16), *shape, on=CARD) == []


def test_a_copy_of_a_tensor_on_the_card_is_held_by_one_that_is_empty_at_first() -> None:
    assert events(copy.deepcopy, 3, on=CARD) == [12, 4, -2]
    assert events(copy.deepcopy, 3) == []


class Everything(nn.Module):
    """Tied and untied weights, a module within another, a buffer whose content is known, one in another memory order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tied, self.within = (
            nn.Linear(4, 8),
            nn.Linear(4, 8, bias=False),
            nn.Sequential(nn.Linear(8, 2)),
        )
        self.tied.weight = self.first.weight
        self.register_buffer("positions", torch.arange(5))
        self.register_buffer("laid", torch.empty(2, 3, 4, 4).to(memory_format=torch.channels_last))
        self.register_buffer("either", torch.empty(8, 4, 1, 1).to(memory_format=torch.channels_last))  # contiguous too
        self.register_buffer("none", None)


def test_a_module_moves_at_once_as_weight_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    def story() -> tuple[Any, ...]:
        trace = PlacedTrace(assumed_stack(find_gpu("h200"), "2.13.0"))
        with trace.during("cold", "weights"):
            module = Everything().to_empty(device="cpu")
            module.tied.weight = module.first.weight
            module.positions = torch.arange(5)
            for there in (CARD, CARD, "cpu", torch.device("cuda"), "cpu"):
                assert module.to(there) is module
                assert {x.device.type for x in [*module.parameters(), *module.buffers()]} == {torch.device(there).type}
                strides = [(x.shape, x.stride()) for x in module.buffers()]
                assert ((8, 4, 1, 1), (4, 1, 4, 4)) in strides and ((2, 3, 4, 4), (48, 1, 12, 3)) in strides
            assert module.first.weight is module.tied.weight
        told = [(b.bytes, b.shape, b.dtype, b.term, b.born, b.died) for b in trace.blocks]
        return told, trace.events, trace.host.peak, trace.owners

    at_once = story()
    monkeypatch.setattr(placed, "at_once", lambda usual, _: usual)
    assert len(at_once[1]) > 20
    assert story() == at_once


def test_positions_come_to_the_card() -> None:
    assert events(lambda x: x[[3]], 11, on=CARD) == [8, 4, -1]
    assert events(lambda x: x[torch.tensor([3, 4])], 11, on=CARD) == [16, 8, -1]
    assert events(lambda x: x[torch.tensor([3, 4], dtype=torch.int32)], 11, on=CARD) == [8, 16, -1, 8, -2]


def test_positions_of_a_mask_are_on_the_card_already() -> None:
    def chosen(x: torch.Tensor) -> torch.Tensor:
        return x[torch.ones(11, dtype=torch.bool, device=CARD)]

    assert [n for n in events(chosen, 11, on=CARD) if n > 0] == [11, 4, 1, 88, 1023, 44]


def test_positions_in_two_dimensions_are_laid_out_alike() -> None:
    def outer(x: torch.Tensor, dtype: torch.dtype = torch.long, device: str = CARD) -> torch.Tensor:
        return x[torch.zeros(3, 1, dtype=dtype, device=device), torch.zeros(7, dtype=dtype, device=device)]

    shape = (4, 64, 64)
    assert events(outer, *shape, on=CARD)[:5] == [24, 56, 168, 168, 5376]
    assert events(lambda x: outer(x, torch.int32), *shape, on=CARD)[:5] == [12, 28, 168, 168, 5376]
    assert [n for n in events(lambda x: outer(x, device="cpu"), *shape, on=CARD) if n > 0] == [24, 56, 168, 168, 5376]
    assert events(lambda x: x[torch.arange(1, device=CARD), torch.arange(1, device=CARD)], *shape, on=CARD)[:3] == [
        8, 8, 256,
    ]  # fmt: skip


def test_infinity_is_looked_for_in_the_absolute_value() -> None:
    assert events(torch.isinf, 4, 256, 64, on=CARD, dtype=torch.float16) == [131072, 65536, -1]
    assert events(torch.isinf, 4, 256, 64, on=CARD, dtype=torch.int32) == [65536]


def test_a_tensor_goes_where_another_is() -> None:
    """`x.to(other)`, as FramePack joins its sections."""
    here, half = torch.empty(2), torch.float16
    assert events(lambda x: x.to(torch.empty(2, device=CARD, dtype=half)), 8) == [4, 16, -1]
    assert events(lambda x: x.to(other=here), 8, on=CARD) == []
    assert events(lambda x: x.to(x), 8, on=CARD) == []
    assert events(lambda x: x.to(0), 8) == events(lambda x: x.cuda(0), 8) == events(lambda x: x.cuda(), 8) == [32]
    assert events(lambda x: x.to(x, copy=True), 8, on=CARD) == [32]


@pytest.mark.parametrize("on", ["cpu", CARD])
def test_a_tensor_stays_where_it_is_if_no_place_is_named(on: str) -> None:
    in_order: dict[str, Any] = {"memory_format": torch.channels_last}
    for op in (
        lambda x: x.to(**in_order),
        lambda x: x.to(None, None, False, **in_order),
        lambda x: x.to(dtype=x.dtype, **in_order),
        lambda x: x.to(device=None, copy=True),
    ):
        assert events(op, 1, 2, 4, 4, on=on) == ([128] if on == CARD else [])


def test_a_literal_is_made_where_another_tensor_is() -> None:
    assert events(lambda x: x.new_tensor([1.0, 2.0]), 8, on=CARD, dtype=torch.float16) == [4]
    assert events(lambda x: x.new_tensor([1, 2], dtype=torch.long, device=CARD), 8) == [16]
    assert events(lambda x: x.new_tensor(2.0), 8) == []


def test_a_generator_of_the_card_makes_numbers_there() -> None:
    """As samplers of a stochastic equation do (torchsde): torch without CUDA has no such generator."""

    def random(x: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator(x.device).manual_seed(7)
        assert (generator.device.type, isinstance(generator, torch.Generator)) == (CARD, True)
        return torch.randn(8, device=x.device, generator=generator)

    assert events(random, 8, on=CARD) == [32]
    assert isinstance(torch.Generator(), torch.Generator)


def test_whether_a_factorization_failed_is_told_through_a_pinned_byte() -> None:
    """As UniPC's scheduler asks of its systems: dry CUDA, torch 2.13.0, SD 1.5's small pipeline pins one byte more by it."""
    trace = PlacedTrace(assumed_stack(find_gpu("h200"), "2.13.0"))
    with trace.during("cold", "activations"):
        torch.linalg.solve(torch.empty(2, 2, device=CARD), torch.empty(2, device=CARD))
    assert trace.host.pinned == 1
