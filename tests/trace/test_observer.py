"""The observer: births and deaths as a device would count them, module paths, composites taken apart."""

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from profiler.trace.observer import Observer


def observe(call: object, module: nn.Module | None = None, device: str = "cpu") -> Observer:
    watch = Observer(device)
    with torch.inference_mode(), watch.during("cold", "activations", module):
        kept = call()  # type: ignore[operator]
    watch.kept = kept  # type: ignore[attr-defined]
    return watch


def alive(watch: Observer) -> list[int]:
    return sorted(block.bytes for block in watch.blocks if block.died is None)


def test_a_view_is_no_birth_and_keeps_its_storage_alive() -> None:
    watch = observe(lambda: torch.empty(1000).view(10, 100)[2:4].transpose(0, 1))
    assert alive(watch) == [4000]
    del watch.kept  # type: ignore[attr-defined]
    assert alive(watch) == []


def test_in_place_operations_allocate_nothing() -> None:
    watch = observe(lambda: torch.ones(1000).add_(1).mul_(2).relu_())
    assert [block.bytes for block in watch.blocks] == [4000]


def test_temporaries_die_in_order() -> None:
    watch = observe(lambda: ((torch.ones(10) + 1) * 2).sum())
    sizes = [watch.blocks[n if n >= 0 else ~n].bytes * (1 if n >= 0 else -1) for n in watch.events]
    assert sizes == [40, 40, -40, 40, -40, 4, -40]


def test_a_reference_cycle_lives_until_it_is_collected() -> None:
    gc.disable()
    try:
        watch = Observer("cpu")
        with watch.during("cold", "activations"):
            loop: list[object] = [torch.empty(100)]
            loop.append(loop)
            del loop
            assert alive(watch) == [400]
            gc.collect()
        assert alive(watch) == []
    finally:
        gc.enable()


def test_another_device_is_not_observed() -> None:
    assert observe(lambda: torch.empty(100), device="meta").blocks == []


def test_ops_carry_the_path_of_their_module() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.SiLU()))
    watch = observe(lambda: model(torch.ones(1, 4)), model)
    paths = {op: path for path, op in watch.ops}
    assert paths["aten.addmm.default"] == "0"
    assert paths["aten.silu.default"] == "1.0"
    assert paths["aten.ones.default"] == ""


def test_the_path_is_left_where_a_module_raises() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("broken")

    model = nn.Sequential(Broken())
    watch = Observer("cpu")
    with watch.during("cold", "activations", model):
        with pytest.raises(ValueError, match="broken"):
            model(torch.ones(1))
        torch.ones(1)
    assert watch.ops[-1] == ("", "aten.ones.default")


def test_composites_are_taken_apart_but_fused_kernels_are_not() -> None:
    q = torch.ones(1, 2, 8, 16)
    ops = {op for _, op in observe(lambda: (F.scaled_dot_product_attention(q, q, q), F.rms_norm(q, [16]))).ops}
    assert {"aten.scaled_dot_product_attention.default", "aten.rms_norm.default"} <= ops
    weight = torch.ones(4, 2, 3, 3)
    ops = {op for _, op in observe(lambda: F.conv2d(torch.ones(1, 2, 8, 8), weight)).ops}
    assert "aten.convolution.default" in ops
    assert "aten.conv2d.default" not in ops


def test_interpolation_allocates_its_output_only() -> None:
    """torch's Python decomposition of it would allocate index tensors and a gather that no kernel makes."""
    x = torch.ones(1, 2, 8, 8)
    watch = observe(lambda: F.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert [block.bytes for block in watch.blocks] == [1 * 2 * 16 * 16 * 4]


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_linear_layer_adds_its_bias_without_another_output(contiguous: bool) -> None:
    x = torch.randn(2, 3, 4) if contiguous else torch.randn(2, 4, 3).transpose(1, 2)
    weight, bias = torch.randn(5, 4), torch.randn(5)
    watch = observe(lambda: F.linear(x, weight, bias))
    torch.testing.assert_close(watch.kept, F.linear(x, weight, bias))  # type: ignore[attr-defined]
    outputs = [block for block in watch.blocks if block.bytes == 2 * 3 * 5 * 4]
    assert len(outputs) == 1
