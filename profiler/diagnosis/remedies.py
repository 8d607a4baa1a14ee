"""Options that take bytes away, each estimated on the same workload: what a remedy saves is a number."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from profiler.data.stack import Stack
from profiler.data.workload import VAE_STAGES, MemoryOptions, Workload
from profiler.diagnosis.remedy import Remedy
from profiler.errors import LatentmeterError
from profiler.estimation.estimator import estimate
from profiler.models.spec import ModelSpec

WORTH = 0.01  # of the peak
FUSED = ("flash", "efficient", "cudnn")
EXPANDABLE = "expandable_segments:True"


@dataclass(frozen=True)
class Candidate:
    """The workload and stack with an option on."""

    name: str
    how: str
    workload: Workload
    stack: Stack
    caution: str = ""


CAUTIONS = {
    "tiling": "tiles are decoded apart: pixels change near their seams",
    "tile": "tiles are decoded apart: pixels change near their seams",
    "framewise": "frames are coded apart: pixels change",
    "bf16": "values change: 8 bits of mantissa",
}


def remedies(
    names: Iterable[str], workload: Workload, spec: ModelSpec, stack: Stack, module: nn.Module
) -> tuple[list[Remedy], dict[str, str]]:
    """Those of `names` that lower a peak by 1 % or more, allocated before reserved, and why the others are not among them.

    `module` is the stage's own, whose class says how large a tile is.
    """
    before = estimate(workload, spec, stack)
    found, left_out = [], {}
    for candidate in _candidates(set(names), workload, spec, stack, module):
        try:
            after = estimate(candidate.workload, spec, candidate.stack)
        except LatentmeterError as error:
            left_out[candidate.how] = str(error)
            continue
        unapplied = [option.detail for option in after.options.values() if not option.applied]
        if unapplied:
            left_out[candidate.how] = f"not applied: {'; '.join(unapplied)}"
            continue
        assert after.peak.allocated_bytes is not None and before.peak.allocated_bytes is not None
        remedy = Remedy(
            name=candidate.name,
            how=candidate.how,
            allocated=after.peak.allocated_bytes,
            allocated_before=before.peak.allocated_bytes,
            reserved=after.peak.reserved_bytes,
            reserved_before=before.peak.reserved_bytes,
            caution=candidate.caution or CAUTIONS.get(candidate.name, ""),
        )
        lower, higher = remedy.peaks
        if remedy.saving >= WORTH * higher:
            found.append(remedy)
        else:
            left_out[candidate.how] = f"does not help: {lower:,} B {remedy.lowers} instead of {higher:,} B"
    return sorted(found, key=lambda remedy: (remedy.lowers, -remedy.saving)), left_out


def _candidates(
    names: set[str], workload: Workload, spec: ModelSpec, stack: Stack, module: nn.Module
) -> list[Candidate]:
    options = workload.options
    found = []

    def add(name: str, how: str, **changes: Any) -> None:
        if name in names and (changed := replace(options, **changes)) != options:
            found.append(Candidate(name, how, replace(workload, options=changed), stack))

    if workload.stage in VAE_STAGES:
        add("tiling", "--tiling", tiling=True)
        if tile := _half_tile(options, spec, module):
            add("tile", f"--tiling --tile {tile[0]}x{tile[1]}", tiling=True, tile=tile)
        if workload.frames > 1:
            add("framewise", "--framewise", framewise=True)
        if workload.batch > 1:
            add("slicing", "--slicing", slicing=True)
    add("channels_last", "--channels-last", channels_last=True)
    for kernel in FUSED:
        add("attention", f"--attention {kernel}", attention=kernel)
    if "bf16" in names and workload.dtype == "fp32" and options.autocast is None:
        found.append(Candidate("bf16", "--dtype bf16", replace(workload, dtype="bf16"), stack, CAUTIONS["bf16"]))
    if "expandable_segments" in names and not _expandable(stack):
        variable = "PYTORCH_CUDA_ALLOC_CONF"
        settings = stack.settings | {variable: ",".join(filter(None, [stack.settings.get(variable), EXPANDABLE]))}
        found.append(
            Candidate("expandable_segments", f"{variable}={EXPANDABLE}", workload, replace(stack, settings=settings))
        )
    return found


def _half_tile(options: MemoryOptions, spec: ModelSpec, module: nn.Module) -> tuple[int, int] | None:
    """Half the tile in use, or half the class's own, in whole quads of latents, so that overlaps stay whole; None where
    the class names none by height and width."""
    sides = [getattr(module, f"tile_sample_min_{side}", None) for side in ("height", "width")]
    height, width = options.tile or sides
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    quad = 4 * spec.latent.spatial_compression
    return max(quad, height // 2 // quad * quad), max(quad, width // 2 // quad * quad)


def _expandable(stack: Stack) -> bool:
    return any(re.search(EXPANDABLE, value) for value in stack.settings.values())
