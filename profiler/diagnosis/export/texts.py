"""Plain texts for other tools: every event as CSV, and the bytes at the peak as collapsed stacks."""

from collections import Counter

from profiler.data import text
from profiler.data.units import by
from profiler.diagnosis.profile import Profile

COLUMNS = ("event", "action", "bytes", "allocated", "phase", "module", "op", "term", "shape", "dtype")
SEPARATORS = str.maketrans(dict.fromkeys("; \t\n", "_"))  # of frames, of the bytes behind them, of lines


def write_csv(profile: Profile) -> bytes:
    """Every allocation and free, a line an event. Bytes as the allocator hands them out; `allocated` is after the event."""
    rows = []
    for event, block, birth, total in profile.steps():
        what = ("alloc" if birth else "free", profile.sizes[block.number], total, block.phase)
        rows.append((event, *what, profile.module(block), profile.op(block), block.term, by(block.shape), block.dtype))
    return text.write_csv(COLUMNS, rows).encode()


def write_stacks(profile: Profile) -> bytes:
    """For flamegraph.pl, speedscope or inferno: a line a stack, module path, op, and bytes, which add up to the peak."""
    sums = Counter[str]()
    for block in profile.alive:
        leaf = block.term if block.phase != "cold" else profile.op(block)
        path = filter(None, profile.module(block).split("."))
        names = [text.visible(name).translate(SEPARATORS) for name in (profile.workload.stage, *path, leaf)]
        sums[";".join(names)] += profile.sizes[block.number]
    return "".join(f"{stack} {size}\n" for stack, size in sorted(sums.items())).encode()
