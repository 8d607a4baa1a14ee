"""What the trace takes once for the whole process and keeps, whichever op asks for it first."""

import pytest

from profiler.data.stack import Stack
from profiler.data.units import MIB
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.trace.trace import Trace

CUBLAS = 32 * MIB


@pytest.mark.parametrize(
    ("version", "with_bias", "kept"),
    [
        ("2.11.0", [False, False], [CUBLAS]),
        ("2.11.0", [True, True], [CUBLAS, MIB]),
        ("2.11.0", [False, True, False], [CUBLAS, MIB]),
        ("2.12.0", [True, True], [CUBLAS]),  # from here on cuBLASLt works in cuBLAS's block
    ],
)
def test_the_first_matrix_product_takes_a_workspace_that_stays(
    version: str, with_bias: list[bool], kept: list[int]
) -> None:
    trace = Trace(assumed_stack(find_gpu("h200"), version))
    for bias in with_bias:
        trace.keep_gemm_workspace(bias)
    assert [block.bytes for block in trace.blocks] == kept
    assert {block.term for block in trace.blocks} == {"workspace"}
    assert all(block.died is None for block in trace.blocks)


def test_the_cpu_takes_none() -> None:
    trace = Trace(Stack(device="cpu", torch="2.13.0"))
    trace.keep_gemm_workspace(True)
    assert trace.blocks == []
