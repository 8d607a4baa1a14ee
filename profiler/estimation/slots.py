"""A stream in the making from one whose slots are empty: each is filled with what the prices say on a card."""

from typing import Any

from profiler.data.events import Block
from profiler.kernels.prices import Price, Prices


class Slots:
    """Takes births and deaths in their order. `held` lists for each birth the blocks that stand for it."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.blocks: list[Block] = []
        self.events: list[int] = []
        self.held: list[list[int]] = []

    def take(self, size: int, shape: tuple[int, ...], price: Price | None, **facts: Any) -> None:
        """A birth: `size` bytes, or what a `price` gives. Raises as `Prices.sizes` does. `facts`: those of a Block."""
        held = list[int]()
        self.held.append(held)
        if price is None:
            if size:
                self._born(held, size, shape, None, facts)
            return
        for one in self.prices.sizes(price):
            if one:
                self._born(held, one, (one,), price, facts)
            else:
                self._die(held.pop())

    def give_back(self, birth: int) -> None:
        """The death of what was taken for a birth, last first."""
        for number in reversed(self.held[birth]):
            self._die(number)

    def _born(self, held: list[int], size: int, shape: tuple[int, ...], price: Price | None, facts: Any) -> None:
        number = len(self.blocks)
        self.blocks.append(Block(number, size, shape=shape, born=len(self.events), price=price, **facts))
        self.events.append(number)
        held.append(number)

    def _die(self, number: int) -> None:
        self.blocks[number].died = len(self.events)
        self.events.append(~number)
