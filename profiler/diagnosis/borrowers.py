"""The ops that borrow most while they run."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from profiler.diagnosis.profile import Profile
from profiler.diagnosis.timeline import Grouping

MOST = 10


@dataclass(frozen=True, kw_only=True)
class Borrower:
    """An op of a module that borrows workspace: `bytes` at most in one call, `calls` in which it borrows, and its kernel.

    The same op in many numbered modules, as in every block of a transformer, is one borrower: `blocks.*.attn`.
    """

    bytes: int
    calls: int
    module: str
    op: str
    kernel: str


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
    found = []
    for (module, name), ops in by_place.items():
        worst = max(ops, key=lambda op: by_op[op])
        kernel = profile.usage.kernels.get(worst)
        found.append(
            Borrower(bytes=by_op[worst], calls=len(ops), module=module, op=name, kernel=kernel.name if kernel else "")
        )
    return sorted(found, key=lambda borrower: -borrower.bytes)[:MOST]
