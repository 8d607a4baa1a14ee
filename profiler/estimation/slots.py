"""A stream in the making from one whose slots are empty: each is filled with what the prices say on a card."""

from profiler.data.events import Block
from profiler.kernels.prices import Price, Prices


class Slots:
    """Takes births and deaths in their order."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.blocks: list[Block] = []
        self.events: list[int] = []

    def take(
        self, op: int, size: int, shape: tuple[int, ...], dtype: str, term: str, phase: str, price: Price | None,
        queue: int = 0, awaited: bool = False,
    ) -> list[int]:  # fmt: skip
        """A birth: `size` bytes, or what a `price` gives. Returns the blocks that stand for it. The rest is a Block's own.

        Raises as `Prices.sizes` does.
        """
        held: list[int] = []
        for one in (size,) if price is None else self.prices.sizes(price):
            if one:
                number, born = len(self.blocks), len(self.events)
                of = shape if price is None else (one,)
                self.blocks.append(Block(number, one, op, of, dtype, term, phase, born, None, price, queue, awaited))
                self.events.append(number)
                held.append(number)
            elif price is not None:
                self.give_back([held.pop()])
        return held

    def give_back(self, held: list[int]) -> None:
        """The death of what was taken for a birth, last first."""
        for number in reversed(held):
            self.blocks[number].died = len(self.events)
            self.events.append(~number)
