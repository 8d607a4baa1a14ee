"""What a rule may ask of the trace that it speaks for."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from profiler.data.stack import Stack
from profiler.kernels.attention import KernelName
from profiler.kernels.prices import Price, Prices
from profiler.trace.known_values import Values


class Tracing(Protocol):
    """A trace, as the rules of `trace/rules` see it. `ops[-1]` is the op that runs: its module path and its name.

    As a context manager it watches ops that a rule runs in place of its own.
    """

    stack: Stack
    device_type: str
    ops: list[tuple[str, str]]
    routes: Counter[str]
    prices: Prices
    values: Values

    def __enter__(self) -> Any: ...
    def __exit__(self, *error: Any) -> None: ...
    def infer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The op's result without data."""

    def track(self, value: Any) -> None:
        """The tensors in `value` are born now."""

    def borrow(self, size: int, price: Price | None = None) -> list[int]:
        """Take a buffer of `size` bytes until `give_back`; `price` says how the size was found."""

    def give_back(self, taken: list[int]) -> None:
        """Free borrowed buffers, last first."""

    def keep_gemm_workspace(self, with_bias: bool) -> None:
        """A matrix product runs: cuBLAS takes its workspace if it has none yet."""

    def try_plans(self, key: Any, workspace: int) -> None:
        """A convolution is about to run: `cudnn.benchmark` times its plans at the first call."""

    def allowed(self) -> tuple[KernelName, ...]:
        """The attention kernels that may run now, in the order in which they are tried."""


Rule = Callable[[Tracing, Any, tuple[Any, ...], dict[str, Any]], Any]
