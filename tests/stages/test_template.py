"""Input templates: arithmetic over symbols, tensors, values, and nothing else."""

import pytest
import torch

from profiler.errors import UserError
from profiler.models.find import find_model
from profiler.stages.template import evaluate, fill_template, symbols

VALUES = {"B": 2, "H": 6, "W": 8}
CPU = torch.device("cpu")


@pytest.mark.parametrize(("text", "number"), [("B", 2), (3, 3), ("H // 2 * W", 24), ("(H + W) - B", 12)])
def test_evaluates(text: int | str, number: int) -> None:
    assert evaluate(text, VALUES) == number


@pytest.mark.parametrize("text", ["__import__('os')", "H / 2", "H ** 9", "Q", "1.5", "H +", "[1]", "True"])
def test_refuses_anything_else(text: str) -> None:
    with pytest.raises(UserError, match="input template"):
        evaluate(text, VALUES)


def test_fills_nested_templates() -> None:
    template = {
        "x": {"shape": ["B", "H"]},
        "mask": {"shape": ["B"], "dtype": "int64", "fill": 1},
        "rope": [{"shape": ["W"], "dtype": "fp32"}, {"shape": ["W"], "dtype": "fp32"}],
        "grid": {"value": [["H // 2", "W // 2"]]},
        "extra": {"y": {"shape": []}},
    }
    filled = fill_template(template, VALUES, torch.bfloat16, CPU)
    assert (filled["x"].shape, filled["x"].dtype) == ((2, 6), torch.bfloat16)
    assert filled["mask"].tolist() == [1, 1]
    assert [t.dtype for t in filled["rope"]] == [torch.float32, torch.float32]
    assert filled["grid"] == [[3, 4]]
    assert filled["extra"]["y"].shape == ()


@pytest.mark.parametrize("template", [3, {"x": {"shape": [1], "dtype": "fp12"}}])
def test_refuses_other_forms(template: object) -> None:
    with pytest.raises(UserError, match="input template"):
        fill_template(template, VALUES, torch.float32, CPU)


def test_symbols_are_latent_sizes_and_config_integers() -> None:
    spec = find_model("wan2.1-t2v-14b")
    values = symbols(spec, spec.workload("denoise", batch=3))
    assert {name: values[name] for name in "BTHWCNLF"} == {
        "B": 3, "T": 21, "H": 90, "W": 160, "C": 16, "N": 75600, "L": 512, "F": 81,
    }  # fmt: skip
    assert values["text_dim"] == 4096
