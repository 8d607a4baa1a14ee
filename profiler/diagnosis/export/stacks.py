"""Collapsed stacks of the bytes at the peak, for flamegraph.pl, speedscope or inferno: module path, then op, then bytes."""

from collections import Counter

from profiler.diagnosis.profile import Profile


def write(profile: Profile) -> bytes:
    """One line a stack; the numbers add up to the peak."""
    sums = Counter[str]()
    for block in profile.alive:
        path = profile.module(block).split(".") if profile.module(block) else []
        leaf = block.term if block.phase != "cold" else profile.op(block)
        sums[";".join([profile.workload.stage, *path, leaf])] += profile.sizes[block.number]
    return "".join(f"{stack} {size}\n" for stack, size in sorted(sums.items())).encode()
