"""One way to run a model, and the changes that led to it."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from profiler.data.stack import Stack
from profiler.data.text import typed
from profiler.data.workload import DtypeName, MemoryOptions, Placement
from profiler.diagnosis.remedies import EXPANDABLE, with_expandable
from profiler.machine.versions import with_torch

NO_OPTIONS, ON_CARD = MemoryOptions(), Placement()


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing to set. Changes of one name exclude each other.

    `costs` is the kind of its price and `price` the price in words, empty for none. `saves` is the memory that it is for:
    the allocator's cache, weights, the VAE's tensors, attention scores, or any. `on` gives a setting with it; `applies`
    says whether it can be made in a question.
    """

    name: str
    costs: Literal["nothing", "time", "quality", "another version"]
    price: str
    saves: Literal["cache", "weights", "vae", "attention", "any"]
    on: Callable[["Setting"], "Setting"]
    applies: Callable[[Any], bool]

    @property
    def title(self) -> str:
        """What is typed for it."""
        return self.on(Setting()).title


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is set for a run: memory options, placement, dtype, allocator, torch. `changes` led to it from what was asked."""

    options: MemoryOptions = NO_OPTIONS
    placement: Placement = ON_CARD
    dtype: DtypeName | None = None
    decode_chunk: int | None = None
    expandable: bool = False
    torch: str | None = None
    changes: tuple[Change, ...] = field(default=(), compare=False)

    def with_changes(self, changes: tuple[Change, ...]) -> "Setting":
        """The same with `changes` made, one after another."""
        setting = self
        for change in changes:
            setting = change.on(setting)
        return replace(setting, changes=changes)

    def with_options(self, **changed: Any) -> "Setting":
        """The same with other memory options."""
        return replace(self, options=replace(self.options, **changed))

    @property
    def named(self) -> dict[str, Any]:
        """What differs from the defaults, by the names of the command line."""
        found: dict[str, Any] = {}
        for part in (self.placement, self.options):
            for each in fields(part):
                value = getattr(part, each.name)
                if value != each.default:
                    told = "x".join(map(str, value)) if isinstance(value, tuple) else value
                    found[each.name.replace("_", "-")] = told
        own = {"dtype": self.dtype, "decode-chunk": self.decode_chunk, "torch": self.torch}
        own["alloc-conf"] = EXPANDABLE if self.expandable else None
        return found | {name: value for name, value in own.items() if value is not None}

    @property
    def title(self) -> str:
        """The same as it is typed."""
        return typed(**self.named) or "as it is"

    def stack_of(self, stack: Stack) -> Stack:
        """`stack` with this setting's torch and allocator."""
        if self.torch is not None:
            stack = with_torch(stack, self.torch)
        return (with_expandable(stack) or stack) if self.expandable else stack
