"""Sizes that rules compute from a whole call: what a convolution or an attention kernel borrows. Knows nothing of torch.

A price is kept with the block that it gave, so that a recording can ask again, at another size or on another card.
"""

from collections import Counter
from dataclasses import dataclass
from math import prod

from profiler.data.stack import Stack
from profiler.kernels import attention, convolution, gemm
from profiler.kernels.attention import Attention, KernelName
from profiler.kernels.convolution import Convolution
from profiler.kernels.cudnn_plans import Planner
from profiler.kernels.gemm import Product
from profiler.kernels.near_plans import near_plan
from profiler.kernels.reduction import Reduction, workspace

BEFORE, AFTER = 4, 5  # as many buffers as any attention kernel takes, before and after its output


class Elsewhere(Exception):
    """A size or a card decides otherwise than the one that was traced: other tensors are allocated there."""


@dataclass(frozen=True)
class Elements:
    """So many bytes for each element of a tensor."""

    shape: tuple[int, ...]
    item: int

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.item * prod(self.shape)


@dataclass(frozen=True)
class Price:
    """What a call borrows. `path`: through which of a rule's branches it went, where these allocate other tensors.

    For attention `allowed` are the kernels to choose of, none for torch's own in the card's order; `part` is the place of
    one buffer, None for the choice itself.
    """

    call: Convolution | Attention | Elements | Reduction | Product
    path: str = ""
    allowed: tuple[KernelName, ...] = ()
    part: int | None = None


class Prices:
    """Asks the rules for one stack; `routes` counts the kernels that calls were priced as."""

    def __init__(self, stack: Stack, routes: Counter[str]) -> None:
        self.stack = stack
        self.routes = routes
        self.planner = Planner(stack)
        self._planned: dict[Convolution, tuple[str, int]] = {}
        self._chosen: dict[tuple[Attention, tuple[KernelName, ...]], KernelName] = {}
        self._kept: set[gemm.Library] = set()

    def sizes(self, price: Price) -> tuple[int, ...]:
        """Bytes of the buffers in the order in which they are taken; a 0 gives back the one that was taken last.

        The route of a convolution, and the kernel of an attention, are counted each time. Raises Elsewhere where another
        path is taken than the price was found on, NoKernelError where no attention kernel can run.
        """
        call = price.call
        if isinstance(call, Reduction):
            return workspace(call, self.stack)
        if isinstance(call, Product):
            return self._kept_by(call)
        if isinstance(call, Elements):
            size = call.bytes
        elif isinstance(call, Convolution):
            _check(price, convolution.path(call, self.stack))
            route, size = self.planned(call)
            self.routes[f"convolution {route}"] += 1
        else:
            kernel = self.kernel(call, price.allowed)
            if price.part is None:
                self.routes[f"attention {kernel}"] += 1
                _check(price, attention.path(kernel))
                return ()
            size = self._buffers(call, kernel)[price.part]
        return (size,) if size else ()

    def planned(self, conv: Convolution) -> tuple[str, int]:
        """A convolution's route and workspace: by cuDNN's own plan where it can be had, else by the closed form."""
        if conv not in self._planned:
            self._planned[conv] = self._plan(conv)
        return self._planned[conv]

    @property
    def unplanned_bytes(self) -> int:
        """By how much cuDNN may exceed the closed form in one of the convolutions priced by it; 0 where plans answered."""
        closed = [(conv, size) for conv, (route, size) in self._planned.items() if route == "cudnn, closed form"]
        return max((convolution.most_workspace_bytes(conv) - size for conv, size in closed), default=0)

    def kernel(self, call: Attention, allowed: tuple[KernelName, ...]) -> KernelName:
        """The kernel that runs: the first of `allowed` that can. Raises NoKernelError where none can."""
        if (call, allowed) not in self._chosen:
            self._chosen[call, allowed] = attention.choose_kernel(call, self.stack, allowed or None)
        return self._chosen[call, allowed]

    def _buffers(self, call: Attention, kernel: KernelName) -> tuple[int, ...]:
        """The sizes of its scratch, always as many: BEFORE buffers taken before the output, AFTER taken after it.

        Of fewer the rest are zeros: 2 before and 1 after are (a, b, 0, 0, c, 0, 0, 0, 0), a converted mask the first before.
        A buffer's place in this tuple thus names it, also where another size of the call takes another number of them.
        """
        before, after = attention.buffers(call, kernel, self.stack)
        return (*before, *[0] * (BEFORE - len(before)), *after, *[0] * (AFTER - len(after)))

    def _kept_by(self, product: Product) -> tuple[int, ...]:
        """The workspaces that a product takes: of those that a library keeps, the ones that it has not yet."""
        needed = {library: size for library, size in gemm.workspaces(product, self.stack).items() if size}
        if product.passing:
            return tuple(needed.values())
        new = tuple(size for library, size in needed.items() if library not in self._kept)
        self._kept |= needed.keys()
        return new

    def _plan(self, conv: Convolution) -> tuple[str, int]:
        route = convolution.route(conv, self.stack)
        planned = self.planner.workspace_bytes(conv) if route == "cudnn" else None
        if planned is not None:
            return "cudnn, planned", planned
        near = near_plan(conv, self.stack) if route == "cudnn" else None
        size = convolution.workspace_bytes(conv, self.stack) if near is None else near
        return "cudnn, closed form" if route == "cudnn" else route, size


def _check(price: Price, path: str) -> None:
    if path != price.path:
        raise Elsewhere
