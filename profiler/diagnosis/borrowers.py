"""The ops that borrow most while they run."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Any

from profiler.diagnosis.profile import Profile
from profiler.diagnosis.timeline import Grouping

MOST = 10


@dataclass(frozen=True, kw_only=True)
class Borrower:
    """An op of a module that borrows workspace: `bytes` at most in one call, `calls` in which it borrows, and its kernel.

    The same op in many numbered modules, as in every block of a transformer, is one borrower: `blocks.*.attn`. So are
    modules that borrow alike: `module` names the first, `alike` counts the others.
    """

    bytes: int
    calls: int
    module: str
    op: str
    kernel: str
    alike: int = 0

    @property
    def where(self) -> str:
        """The module, and how many more borrow alike."""
        return f"{self.module or 'the stage'}{f' and {self.alike} alike' if self.alike else ''}"


def worst_borrowers(profile: Profile) -> list[Borrower]:
    """The ten ops with the most workspace."""
    by_op = Counter[int]()
    for block in profile.blocks:
        if block.phase == "cold" and block.term == "workspace":
            by_op[block.op] += profile.sizes[block.number]
    by_place: dict[tuple[str, str], list[int]] = defaultdict(list)
    pattern = Grouping(profile).pattern
    for op in by_op:
        module, name = profile.ops[op]
        by_place[pattern(module), name].append(op)
    found: dict[tuple[object, ...], Borrower] = {}
    for (module, name), ops in by_place.items():
        worst = max(ops, key=lambda op: by_op[op])
        kernel = profile.usage.kernels.get(worst)
        what: dict[str, Any] = {
            "bytes": by_op[worst],
            "calls": len(ops),
            "op": name,
            "kernel": kernel.name if kernel else "",
        }
        first = found.get(tuple(what.values()))
        found[tuple(what.values())] = (
            replace(first, alike=first.alike + 1) if first else Borrower(module=module, **what)
        )
    return sorted(found.values(), key=lambda borrower: -borrower.bytes)[:MOST]
