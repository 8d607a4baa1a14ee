"""The ops that borrow most while they run."""

from collections import Counter, defaultdict
from dataclasses import dataclass

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
    sizes = Counter[int]()
    for block in profile.blocks:
        if block.phase == "cold" and block.term == "workspace":
            sizes[block.op] += profile.sizes[block.number]
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    pattern = Grouping(profile).pattern
    for op in sizes:
        module, name = profile.ops[op]
        places[pattern(module), name].append(op)
    modules: dict[tuple[int, int, str, str], list[str]] = defaultdict(list)
    for (module, name), ops in places.items():
        worst = max(ops, key=sizes.__getitem__)
        kernel = profile.usage.kernels.get(worst)
        modules[sizes[worst], len(ops), name, kernel.name if kernel else ""].append(module)
    found = [
        Borrower(bytes=size, calls=calls, module=alike[0], op=name, kernel=kernel, alike=len(alike) - 1)
        for (size, calls, name, kernel), alike in modules.items()
    ]
    return sorted(found, key=lambda borrower: -borrower.bytes)[:MOST]
