"""What an op's rule may ask of the trace: a result without data, buffers that the kernel borrows, the stack."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from profiler.data.stack import Stack
from profiler.kernels.attention import KernelName, PackageName, default_order
from profiler.kernels.convolution import Convolution
from profiler.kernels.gemm import Product, gives_back
from profiler.kernels.prices import Elements, Elsewhere, Price, Prices
from profiler.trace.attention import dispatcher, kernels_on
from profiler.trace.elementwise import elementwise_strides
from profiler.trace.known_values import Values, is_real
from profiler.trace.observer import Observer, dtype_name


class Tracing(Observer):
    """An observer of tensors without data that knows what kernels borrow. `ops[-1]` is the op that runs.

    As a context manager it watches ops that a rule runs in place of its own. `trace.py` has the arguments.
    """

    def __init__(self, stack: Stack, device_type: str, slots: bool) -> None:
        super().__init__(device_type)
        self.stack = stack
        self.slots = slots
        self.package: PackageName | None = None  # whose attention is being called, besides torch's own
        self.benchmark = False
        self.routes: Counter[str] = Counter()
        self.prices = Prices(stack, self.routes)
        self.cache_emptied_at: set[int] = set()  # the events before which cached segments are given back
        self.values = Values()
        self.unpriced: list[str] = []  # where a library's buffer is not known: module path and op
        self.rules: dict[Any, Rule] = {}
        self._products: set[bool] = set()  # whether there was a matrix product with a bias, and one without
        self._results: dict[Any, Any] = {}
        self._benchmarked: set[Convolution] = set()

    def _is_composite(self, func: Any) -> bool:
        return func not in self.rules and super()._is_composite(func)

    @property
    def state(self) -> tuple[Hashable, ...]:
        """What of the trace's own state decides the allocations of a call."""
        backend = dispatcher() and dispatcher()._AttentionBackendRegistry._active_backend
        return (len(self._products), True in self._products, self.allowed(), backend)

    @property
    def path(self) -> str:
        """The module that runs."""
        return self._path[-1]

    @property
    def told(self) -> int:
        """How many places there are to tell of, at which something was assumed."""
        return len(self.unpriced) + len(self.values.masks) + len(self.values.choices)

    def infer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The op's result without data. Shape inference is the trace's main cost, so results are remembered by shapes."""
        if func._schema.is_mutable or any(r.alias_info is not None for r in func._schema.returns):
            return func(*args, **kwargs)
        key = _signature((func, args, tuple(kwargs.items())))
        if key in self._results:
            return _fresh(self._results[key])
        result = _like_cuda(func, args, kwargs, func(*args, **kwargs))
        template = _template(result)
        if template is not None and not _is_view(result, args):
            self._results[key] = template
        return result

    def is_on_host(self, tensor: torch.Tensor) -> bool:
        """Whether a card has to fetch `tensor` before it reads it."""
        return self.stack.device == "cuda" and is_real(tensor)

    @property
    def on_device(self) -> bool:
        """Whether what runs now runs there: what it borrows on the host is not the card's."""
        return True

    def borrow(self, size: int, price: Price | None = None) -> list[int]:
        """Take `size` bytes until `give_back`; nothing for 0, but the slot of a `price`."""
        if not (size or price) or not self.on_device:
            return []
        number = self.allocate(size, (size,), "byte", "workspace")
        self.blocks[number].price = price
        return [number]

    def by_card(self) -> Stack:
        """The stack, for a rule whose buffers follow from the card and have no price. Raises Elsewhere in a recording."""
        if self.slots:
            raise Elsewhere
        return self.stack

    def give_back(self, taken: list[int]) -> None:
        """Free borrowed buffers, last first, as scopes end."""
        for number in reversed(taken):
            self.release(number)

    def take(self, price: Price) -> list[int]:
        """Take what a call borrows until `give_back`. In a recording one slot stands for all of it."""
        if self.slots or not self.on_device:
            return self.borrow(0, price)
        taken: list[int] = []
        for size in self.prices.sizes(price):
            if size:
                taken += self.borrow(size, price)
            else:
                self.release(taken.pop())
        return taken

    def take_copy(self, x: torch.Tensor) -> list[int]:
        """Take a copy of `x` until `give_back`."""
        return self.take(Price(Elements(tuple(x.shape), x.element_size())))

    def take_ordered(self, x: torch.Tensor, layout: torch.memory_format = torch.contiguous_format) -> list[int]:
        """Take the copy that a kernel makes of `x` where it does not lie in `layout`, until `give_back`."""
        return [] if x.is_contiguous(memory_format=layout) else self.take_copy(x)

    def keep_gemm_workspace(self, with_bias: bool) -> None:
        """The first product of its kind takes a workspace, after its output, which the library keeps (`kernels/gemm.py`)."""
        if self.stack.device != "cuda" or not self.on_device:
            return
        passing = self.take(Price(Product(with_bias, passing=True))) if gives_back(self.stack) else []
        if with_bias not in self._products:
            self._products.add(with_bias)
            self.take(Price(Product(with_bias)))
        self.give_back(passing)

    def allowed(self) -> tuple[KernelName, ...]:
        """The attention kernels that may run now, in the order in which they are tried; none for the card's own choice."""
        if self.package is not None:
            return (self.package,)
        found = kernels_on(self.stack)
        return () if found == default_order(self.stack) else found

    @contextmanager
    def _calling(self, package: PackageName) -> Iterator[None]:
        self.package = package
        try:
            yield
        finally:
            self.package = None

    def try_plans(self, conv: Convolution) -> None:
        """`cudnn.benchmark`: at a convolution's first call its plans are timed in one buffer, then the cache is emptied."""
        if self.benchmark and conv not in self._benchmarked:
            self._benchmarked.add(conv)
            self.give_back(self.borrow(self.prices.planned(conv)[1]))
            self.cache_emptied_at.add(len(self.events))


Rule = Callable[[Tracing, Any, tuple[Any, ...], dict[str, Any]], Any]


def check_dtypes(func: Any, *tensors: torch.Tensor | None) -> None:
    """Raise as the kernel does where tensors are of different dtypes: not every shape inference looks at them."""
    dtypes = {dtype_name(tensor.dtype): None for tensor in tensors if tensor is not None}
    if len(dtypes) > 1:
        raise RuntimeError(f"{func} takes tensors of one dtype, got {' and '.join(dtypes)}")


def _like_cuda(func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    """Give an elementwise op's result the strides that it has on a device; those of shape inference may differ."""
    # Of `clone` the format is asked for.
    elementwise = torch.Tag.pointwise in func.tags and func is not torch.ops.aten.clone.default
    if not elementwise or not isinstance(result, torch.Tensor) or not result.numel():
        return result
    strides = elementwise_strides(func, (args, kwargs), result.shape)
    if strides == result.stride():
        return result
    return torch.empty_strided(result.shape, strides, dtype=result.dtype, device=result.device)


def _signature(value: Any) -> Any:
    """A hashable key of an argument tree: tensors by shape, strides, dtype and device."""
    if isinstance(value, torch.Tensor):
        return (value.shape, value.stride(), value.dtype, value.device.type)
    if isinstance(value, (tuple, list)):
        return tuple(_signature(item) for item in value)
    return (type(value), value)


def _template(result: Any) -> Any:
    """What is needed to make such a result again; None for a result that is not all tensors without data."""
    if isinstance(result, torch.Tensor):
        if is_real(result):
            return None  # a model's own tensor on the host: it has values, and decisions may follow from them
        return (result.shape, result.stride(), result.dtype, result.device)
    if isinstance(result, (tuple, list)) and result:
        items = [_template(item) for item in result]
        return items if all(item is not None for item in items) else None
    return None


def _fresh(template: Any) -> Any:
    if isinstance(template, list):
        return [_fresh(item) for item in template]
    shape, stride, dtype, device = template
    return torch.empty_strided(shape, stride, dtype=dtype, device=device)


def _is_view(result: Any, args: Any) -> bool:
    """Whether `result` lies in a tensor of `args`, as that of `_unsafe_view` does though its schema does not say so."""
    of_result, of_args = (
        {leaf.untyped_storage()._cdata for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)}
        for value in (result, args)
    )
    return not of_result.isdisjoint(of_args)
