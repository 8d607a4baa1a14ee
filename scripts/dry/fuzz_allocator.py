"""Drives torch's caching allocator and the model of it side by side, step by step: run under scripts/dry_cuda.

    scripts/dry_cuda python scripts/dry/fuzz_allocator.py --steps 100000 [--seed N] [--write FILE]
    PYTORCH_ALLOC_CONF=max_split_size_mb:64 scripts/dry_cuda python scripts/dry/fuzz_allocator.py

After every step allocated, reserved, requested and active bytes, segments, retries and OOMs must be equal; the first
difference ends the run with exit code 1. `--write` keeps the stream with torch's own counters every 100 steps (gzipped
JSON), which the ordinary tests replay without torch's CUDA build.
"""

import argparse
import gzip
import json
import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from profiler.allocator.caching import CachingAllocator, OutOfMemory
from profiler.allocator.expandable import ExpandableAllocator
from profiler.allocator.settings import MIB, AllocatorSettings, parse_settings

EDGES = [1, 512, 513, MIB, MIB + 1, 10 * MIB - 512, 10 * MIB, 20 * MIB, 21 * MIB, 64 * MIB]
COUNTERS = {
    "allocated": "allocated_bytes.all.current",
    "reserved": "reserved_bytes.all.current",
    "requested": "requested_bytes.all.current",
    "active": "active_bytes.all.current",
    "segments": "segment.all.current",
    "retries": "num_alloc_retries",
    "ooms": "num_ooms",
}


def make_model(settings: AllocatorSettings, capacity: int, total: int) -> CachingAllocator:
    capacity = min(capacity, settings.allowed(total))
    if settings.expandable:
        return ExpandableAllocator(total, capacity, settings=settings, falling=False)
    return CachingAllocator(capacity, settings, settings.garbage_above(total), falling=False)


def of_torch() -> dict[str, int]:
    stats = torch.cuda.memory_stats()
    return {name: stats[key] for name, key in COUNTERS.items()}


def of_model(model: CachingAllocator) -> dict[str, int]:
    # On one stream a block is active exactly while it is allocated.
    return {name: getattr(model, "allocated" if name == "active" else name) for name in COUNTERS}


class Fuzz:
    """One run: random allocations, frees and cache clearings on both sides."""

    def __init__(self, model: CachingAllocator, seed: int) -> None:
        self.model = model
        self.random = random.Random(seed)
        self.live: list[tuple[Any, Any]] = []
        self.stream: list[list[int]] = []

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.52 or not self.live:
            self.allocate()
        elif choice < 0.998:
            index = self.random.randrange(len(self.live))
            tensor, block = self.live.pop(index)
            del tensor
            self.model.free(block)
            self.stream.append([1, index])
        else:
            torch.cuda.empty_cache()
            self.model.empty_cache()
            self.stream.append([2, 0])

    def allocate(self) -> None:
        size = int(2 ** self.random.uniform(0, 29.5)) if self.random.random() < 0.8 else self.random.choice(EDGES)
        self.stream.append([0, size])
        try:
            tensor = torch.empty(size, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            tensor = None
        try:
            block = self.model.malloc(size)
        except OutOfMemory:
            block = None
        if (tensor is None) != (block is None):
            sys.exit(f"step {len(self.stream)}: {size} B: torch {tensor is not None}, model {block is not None}")
        if block is not None:
            self.live.append((tensor, block))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fraction", type=float, help="memory fraction of the card")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()

    torch.cuda.init()
    capacity, total = torch.cuda.mem_get_info()
    text = os.environ.get("PYTORCH_ALLOC_CONF", "")
    settings = parse_settings(text)
    if arguments.fraction is not None:
        torch.cuda.set_per_process_memory_fraction(arguments.fraction)
        settings = replace(settings, fraction=arguments.fraction)
    model = make_model(settings, capacity, total)
    fuzz = Fuzz(model, arguments.seed)
    checks = []
    for number in range(1, arguments.steps + 1):
        fuzz.step()
        real, ours = of_torch(), of_model(model)
        if real != ours:
            sys.exit(f"step {number}: torch {real}, model {ours}")
        if number % 100 == 0:
            checks.append([number, *real.values()])
    peaks = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
    if peaks != (model.peak_allocated, model.peak_reserved):
        sys.exit(f"peaks: torch {peaks}, model {(model.peak_allocated, model.peak_reserved)}")
    if arguments.write:
        data = {
            "torch": torch.__version__,
            "settings": text,
            "capacity": capacity,
            "total": total,
            "limit": settings.allowed(total) if settings.fraction < 1 else None,
            "stream": fuzz.stream,
            "counters": list(COUNTERS),
            "checks": checks,
        }
        with gzip.GzipFile(arguments.write, "wb", mtime=0) as stream:
            stream.write(json.dumps(data, separators=(",", ":")).encode())
    print(f"torch {torch.__version__}, settings '{text}', seed {arguments.seed}: {arguments.steps} steps equal, "
          f"{model.retries} retries, {model.ooms} OOMs, peak reserved {model.peak_reserved / 2**30:.2f} GiB")  # fmt: skip


if __name__ == "__main__":
    main()
