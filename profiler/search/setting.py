"""One way to run a model: memory options, placement, dtype, allocator and torch, with the changes that led to it."""

import shlex
from dataclasses import dataclass, field, fields, replace
from typing import Any

from profiler.data.alloc_conf import alloc_conf_of, with_alloc_conf
from profiler.data.stack import Stack
from profiler.data.workload import DtypeName, MemoryOptions, Placement
from profiler.machine.versions import with_torch

EXPANDABLE = "expandable_segments:True"
NO_OPTIONS, ON_CARD = MemoryOptions(), Placement()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is set for a run, by the ladder's changes of these names, the cheapest first, which cost these prices."""

    options: MemoryOptions = NO_OPTIONS
    placement: Placement = ON_CARD
    dtype: DtypeName | None = None
    decode_chunk: int | None = None
    expandable: bool = False
    torch: str | None = None
    changes: tuple[str, ...] = field(default=(), compare=False)
    prices: tuple[str, ...] = field(default=(), compare=False)

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
                    found[each.name.replace("_", "-")] = _told(value)
        own = {"dtype": self.dtype, "decode-chunk": self.decode_chunk, "torch": self.torch}
        found |= {name: value for name, value in own.items() if value is not None}
        return found | ({"alloc-conf": EXPANDABLE} if self.expandable else {})

    @property
    def flags(self) -> str:
        """The same as it is typed."""
        return " ".join(f"--{name}" if value is True else f"--{name} {value}" for name, value in self.named.items())

    @property
    def title(self) -> str:
        """The same for a reader of a table."""
        return self.flags or "as it is"

    def stack_of(self, stack: Stack) -> Stack:
        """`stack` as this setting has it: its allocator, its torch."""
        if self.torch is not None:
            stack = with_torch(stack, self.torch)
        if not self.expandable:
            return stack
        return replace(stack, settings=with_alloc_conf(stack.settings, self.alloc_conf(stack)))

    def alloc_conf(self, stack: Stack) -> str:
        """The allocator's settings on `stack`; empty for its defaults."""
        conf = alloc_conf_of(stack.settings, stack.torch_release)
        return ",".join(filter(None, [conf, EXPANDABLE])) if self.expandable and EXPANDABLE not in conf else conf


def typed(*words: Any) -> str:
    """A command line of `words`, quoted where a shell needs it; what is empty is left out."""
    return " ".join(shlex.quote(str(word)) for word in words if word not in (None, ""))


def _told(value: Any) -> Any:
    return "x".join(map(str, value)) if isinstance(value, tuple) else value
