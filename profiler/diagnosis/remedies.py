"""Options that take bytes away, each estimated on the same workload: what a remedy saves is a number."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from profiler.allocator.histories import Histories
from profiler.data.alloc_conf import VARIABLE
from profiler.data.events import Events
from profiler.data.memory import Memory
from profiler.data.stack import Stack
from profiler.data.units import format_bytes
from profiler.data.workload import VAE_STAGES, MemoryOptions, Workload
from profiler.errors import LatentmeterError
from profiler.kernels.convolution import skips_cudnn_conv3d
from profiler.machine.side_by_side import side_by_side
from profiler.machine.versions import with_torch

if TYPE_CHECKING:
    from torch import nn

    from profiler.models.spec import ModelSpec

WORTH = 0.01  # of the peak
FUSED = ("flash", "efficient", "cudnn")
EXPANDABLE = "expandable_segments:True"
# The last torch whose rules were looked at, and the first cuDNN that torch 2.9.1 and 2.10 trust with 16-bit 3D convolutions.
NEWER_TORCH, NEWER_CUDNN = "2.13.0", 91500


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """An option, how to ask for it, the peaks with it and without it (bytes), what it costs, whether the card holds it."""

    name: str
    how: str
    allocated: int
    allocated_before: int
    reserved: int | None
    reserved_before: int | None
    caution: str = ""
    fits: bool | None = None
    fits_before: bool | None = None

    @property
    def lowers(self) -> Literal["allocated", "reserved"]:
        """The quantity that it is for."""
        return "reserved" if self.name == "expandable_segments" else "allocated"

    @property
    def peaks(self) -> tuple[int, int]:
        """That quantity's peak with the option and without it."""
        if self.lowers == "reserved":
            assert self.reserved is not None and self.reserved_before is not None
            return self.reserved, self.reserved_before
        return self.allocated, self.allocated_before

    @property
    def helps(self) -> bool:
        """Whether that is lower by what is worth a word."""
        return self.saving >= WORTH * self.peaks[1]

    @property
    def saving(self) -> int:
        """Bytes that the peak is lower by."""
        return self.peaks[1] - self.peaks[0]


CAUTIONS = {
    "tiling": "tiles are decoded apart: pixels change near their seams",
    "tile": "tiles are decoded apart: pixels change near their seams",
    "framewise": "frames are coded apart: pixels change",
    "bf16": "numbers keep 2 to 3 digits instead of 7: results change a little",
    "fp16": "numbers keep 3 digits instead of 7 and end at 65,504: results change a little, larger values overflow",
    "newer_torch": "another release, whose other kernels change too",
    "newer_cudnn": "another cuDNN, whose other plans change too",
}


def describe_remedy(remedy: Remedy) -> str:
    """What to type and what it is worth."""
    now, before = remedy.peaks
    caution = f"; {remedy.caution}" if remedy.caution else ""
    peaks = f"{format_bytes(now)} {remedy.lowers} instead of {format_bytes(before)}"
    better = None if remedy.fits_before else remedy.fits
    fits = {True: "; then it fits", False: "; it does not fit still", None: ""}[better]
    return f"{remedy.how}: {peaks} ({now / before - 1:+.0%}){fits}{caution}"


def estimate_remedies(
    names: Collection[str], workload: Workload, spec: "ModelSpec", stack: Stack, module: "nn.Module",
    context_bytes: int | None = None, stream: Events | None = None,
) -> tuple[list[Remedy], dict[str, str]]:  # fmt: skip
    """Those of `names` that lower a peak by 1 % or more, allocated before reserved, and why the others are not among them.

    `module` is the stage's own, whose class says how large a tile is; `stream` is what the workload was traced as on this
    stack, where it was.
    """
    from profiler.estimation.answer import plans_on
    from profiler.estimation.estimator import replay_stage

    def replayed(changed: Workload, on: Stack) -> Histories:
        if stream and changed == workload and replace(on, settings=stack.settings) == stack:  # as traced
            return Histories(stream, on, context_bytes, plans_on(on))
        return replay_stage(changed, spec, on, context_bytes)

    def remedy(name: str, how: str, changed: Workload, on: Stack) -> Remedy:
        after = replayed(changed, on)
        return replace(make_remedy(name, how, before.peak, after.peak), fits=after.fits, fits_before=before.fits)

    every = [one for one in _candidates(workload, spec, stack, module) if one[0] in names]
    parts = {one[1]: partial(remedy, *one) for one in every if one[2:] != (workload, stack)}
    smaller = {one[1]: parts.pop(one[1]) for one in every if one[0] == "tile" and one[1] in parts}
    before = replayed(workload, stack)
    found = tried(parts)
    tiling = found.get("--tiling")
    enough = isinstance(tiling, Remedy) and tiling.helps and tiling.fits  # smaller tiles are many, and take long
    said = dict.fromkeys(smaller, "not tried: the class's own tiles help, and then it fits")
    return sort_out(found | (said if enough else tried(smaller)))


def tried(parts: Mapping[str, Callable[[], Remedy]]) -> dict[str, Remedy | str]:
    """The remedies that `parts` make, side by side; of one that cannot be estimated, why."""
    return dict(zip(parts, side_by_side([partial(_tried, part) for part in parts.values()]), strict=True))


def _tried(part: Callable[[], Remedy]) -> Remedy | str:
    try:
        return part()
    except LatentmeterError as error:
        return str(error)


def make_remedy(name: str, how: str, before: Memory, after: Memory, caution: str = "") -> Remedy:
    """An option by the peaks without it and with it."""
    assert after.allocated_bytes is not None and before.allocated_bytes is not None
    return Remedy(
        name=name,
        how=how,
        allocated=after.allocated_bytes,
        allocated_before=before.allocated_bytes,
        reserved=after.reserved_bytes,
        reserved_before=before.reserved_bytes,
        caution=caution or CAUTIONS.get(name, ""),
    )


def sort_out(found: Mapping[str, Remedy | str]) -> tuple[list[Remedy], dict[str, str]]:
    """Those that help, allocated before reserved, best first; the others are left out, each with its figures, or with why
    it could not be tried.
    """
    helps, left_out = [], {}
    for how, remedy in found.items():
        if isinstance(remedy, str):
            left_out[how] = remedy
        elif remedy.helps:
            helps.append(remedy)
        else:
            lower, higher = map(format_bytes, remedy.peaks)
            left_out[how] = f"does not help: {lower} {remedy.lowers} instead of {higher}"
    return sorted(helps, key=lambda remedy: (remedy.lowers, -remedy.saving)), left_out


def with_expandable(stack: Stack) -> Stack | None:
    """The stack with expandable segments switched on; None where they are on already."""
    conf = stack.alloc_conf
    return None if EXPANDABLE in conf else stack.with_alloc_conf(",".join(filter(None, [conf, EXPANDABLE])))


def _candidates(
    workload: Workload, spec: "ModelSpec", stack: Stack, module: "nn.Module"
) -> Iterator[tuple[str, str, Workload, Stack]]:
    """Each option that could be asked for: its name, what to type for it, and the workload and stack with it on."""

    def option(name: str, how: str, **changes: Any) -> tuple[str, str, Workload, Stack]:
        return name, how, replace(workload, options=replace(workload.options, **changes)), stack

    if workload.stage in VAE_STAGES:
        yield option("tiling", "--tiling", tiling=True)
        if tile := _half_tile(workload.options, spec, module):
            yield option("tile", f"--tiling --tile {tile[0]}x{tile[1]}", tiling=True, tile=tile)
        if workload.frames > 1:
            yield option("framewise", "--framewise", framewise=True)
        if workload.batch > 1:
            yield option("slicing", "--slicing", slicing=True)
    yield option("channels_last", "--channels-last", channels_last=True)
    for kernel in FUSED:
        yield option("attention", f"--attention {kernel}", attention=kernel)
    if workload.dtype == "fp32" and workload.options.autocast is None:
        yield "bf16", "--dtype bf16", replace(workload, dtype="bf16"), stack
    if workload.dtype == "bf16":
        yield "fp16", "--dtype fp16", replace(workload, dtype="fp16"), stack
    if skips_cudnn_conv3d(stack):
        yield "newer_torch", f"--torch {NEWER_TORCH}", workload, with_torch(stack, NEWER_TORCH)
        yield "newer_cudnn", f"--cudnn {NEWER_CUDNN}", workload, replace(stack, cudnn=NEWER_CUDNN)
    if expandable := with_expandable(stack):
        yield "expandable_segments", f"{VARIABLE}={EXPANDABLE}", workload, expandable


def _half_tile(options: MemoryOptions, spec: "ModelSpec", module: "nn.Module") -> tuple[int, int] | None:
    """Half the tile in use, or half the class's own one, in pixels; None where the class has no such sizes.

    Sides are whole multiples of four latents, so that the overlaps of tiles, a quarter of a side, are whole latents.
    """
    from profiler.stages.tiles import SIDES, tile_size

    height, width = options.tile or (tile_size(module, side) for side in SIDES)
    if height is None or width is None:
        return None
    quad = 4 * spec.latent.spatial_compression
    return max(quad, height // 2 // quad * quad), max(quad, width // 2 // quad * quad)
