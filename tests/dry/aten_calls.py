"""Calls torch's operators on the CPU and in dry CUDA: run under scripts/dry_cuda, prints one JSON object.

The operators and their inputs are torch's own samples (op_db). Each is called with inputs that are known, copied to the
card, and with inputs that only kernels would have written. For each: `ok`, `error: ...`, or what is not as on the CPU.
"""

import itertools
import json
import sys
import types
import unittest
import warnings
from typing import Any

# torch.testing needs this package for a class that nobody uses here.
sys.modules["expecttest"] = types.ModuleType("expecttest")
sys.modules["expecttest"].TestCase = unittest.TestCase  # type: ignore[attr-defined]

import torch  # noqa: E402
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402
from torch.utils._pytree import tree_leaves, tree_map  # noqa: E402

SAMPLES = 2
FEW = 64 << 10  # bytes; SMALL of scripts/dry/contents.h
UNSET = ("empty", "new_empty", "as_strided")  # memory that nobody wrote, or that `known` does not copy
DTYPES = (torch.float32, torch.int64, torch.bool, torch.complex64)


def known(value: Any) -> Any:
    return value.detach().cuda() if isinstance(value, torch.Tensor) else card(value)


def unknown(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return known(value)
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")


def card(value: Any) -> Any:
    return torch.device("cuda") if isinstance(value, torch.device) else value


def all_true(value: Any) -> Any:
    """The masks that dry CUDA assumes where none is known."""
    is_mask = isinstance(value, torch.Tensor) and value.dtype == torch.bool
    return torch.ones_like(value) if is_mask else value


def same(value: Any) -> Any:
    return value


def shapes(result: Any) -> list[str]:
    leaves = tree_leaves(result)
    return [f"{tuple(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__ for x in leaves]


def differs(wanted: Any, got: Any) -> str | None:
    """The first numbers of `got` that are not the CPU's: NaN where none is known, and more floats than FEW read as zeros."""
    for x, y in zip(tree_leaves(wanted), tree_leaves(got), strict=True):
        if isinstance(x, torch.Tensor) and x.layout == torch.strided and x.dtype in (torch.float32, torch.bool):
            there, here = y.cpu().float(), x.float()
            if (
                x.nbytes <= FEW
                and not ((there == here) | there.isnan() | here.isnan() | (there - here).abs().lt(1e-3)).all()
            ):
                return f"value {there.flatten()[:3].tolist()} for {here.flatten()[:3].tolist()}"
    return None


def call(op: Any, sample: Any, kind: str) -> str:
    """The outcome of one call."""
    to_card, to_host = (known, same) if kind == "known" else (unknown, all_true)
    everything = (sample.input, sample.args, sample.kwargs)
    try:
        first, more, named = tree_map(to_host, everything)
        wanted = op(first, *more, **named)
    except Exception:  # noqa: BLE001 - torch's samples of its own errors, or of devices that are not here
        return "no answer on the CPU"
    try:
        first, more, named = tree_map(to_card, everything)
        got = op(first, *more, **named)
        if shapes(got) != shapes(wanted):
            return f"shape {shapes(got)} for {shapes(wanted)}"
        return (differs(wanted, got) if kind == "known" and not op.name.startswith(UNSET) else None) or "ok"
    except Exception as error:  # noqa: BLE001 - whatever it is: the test looks at the words
        return f"error: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def main() -> None:
    warnings.simplefilter("ignore")
    outcomes: dict[str, list[str]] = {}
    for op in op_db:
        dtype = next((dtype for dtype in DTYPES if dtype in op.dtypes), None)
        if dtype is None:
            continue
        name = ".".join(filter(None, [op.name, op.variant_test_name]))
        samples = itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=False), SAMPLES)
        outcomes[name] = [f"{kind}: {call(op, sample, kind)}" for sample in samples for kind in ("known", "unknown")]
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main()
