"""Cards that an estimate can be for, from `configs/gpus/*.yaml`, and the stack that is assumed on them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from profiler.data.section import Limit, PositiveInt, Section
from profiler.data.stack import RESERVE, Stack
from profiler.data.text import did_you_mean
from profiler.data.units import GIB, MIB, format_bytes
from profiler.errors import UserError, check_kind
from profiler.files.load import read_as, read_own
from profiler.files.paths import CONFIGS, installed
from profiler.machine.versions import check_cudnn, check_torch, with_torch

GPUS, PLANS = CONFIGS / "gpus", CONFIGS / "plans"
DEFAULT_GPU = "h200"
MOST_MISSING = 659 * MIB  # of a box of up to 32 GiB, the largest difference to CUDA's total that is known (RTX 5090)
OTHERS = r"\b(amd|radeon|instinct|rx ?\d{3,4}|mi\d{3}x?|apple|m[1-5]( (pro|max|ultra))?|intel|arc|gaudi)\b"
SHARED = "maxSharedMemoryPerBlockOptin"
PREFIXES = r"^(nvidia |geforce |tesla |quadro )+"
_given: dict[str, "Gpu"] = {}  # cards read from files that a user named, by the name that torch prints


@dataclass(frozen=True, kw_only=True)
class Gpu(Section):
    """One card. `total_bytes` as CUDA reports it; `box_gib` as it is sold; `context_bytes` is None until measured.

    `properties` is the device property record by which cuDNN plans for this card without one: all of its 23 keys, in
    cuDNN's own names and units. None: no record is known, nothing can be run dry on the card, and only plans of a sibling
    serve. `reserve_bytes` are kept free for others.
    """

    id: str
    name: str
    capability: tuple[int, int]
    multiprocessors: PositiveInt
    box_gib: PositiveInt | None = None
    total_bytes: PositiveInt
    context_bytes: PositiveInt | None = None
    reserve_bytes: Annotated[int, Limit(ge=0)] = 0
    properties: dict[str, Any] | None = None
    sources: dict[str, str]


def gpu_ids() -> list[str]:
    """The ids of all cards. Reads no file."""
    return sorted(path.name.removesuffix(".yaml") for path in GPUS.glob("*.yaml"))


@cache
def gpu(gpu_id: str) -> Gpu:
    """One card; reads its file alone."""
    return read_own(Gpu, GPUS / f"{gpu_id}.yaml", "a card file")


def gpus() -> dict[str, Gpu]:
    """Every card that has a file, by id."""
    return {gpu_id: gpu(gpu_id) for gpu_id in gpu_ids()}


def planned(folder: Path = PLANS) -> list[Gpu]:
    """The cards for which a folder has plans."""
    return [gpu(path.stem) for path in sorted(folder.glob("*.json"))]


def gpu_named(name: str | None) -> Gpu | None:
    """The card whose own name is `name`, as CUDA says it: from a user's file, or the first shipped one."""
    if name in _given:
        return _given[name]
    files = (path for path in sorted(GPUS.glob("*.yaml")) if f"name: {name}\n" in path.read_text(encoding="utf-8"))
    return next((gpu(path.stem) for path in files), None)


def siblings(
    capability: tuple[int, int] | None, multiprocessors: int | None, record: Mapping[str, Any], folder: Path = PLANS
) -> Iterator[Gpu]:
    """Cards with plans in a folder that cuDNN takes for this: architecture, multiprocessors, shared memory are the same.

    An architecture has one size of shared memory; `record`, where there is one, says it and the rest of this very card.
    """
    for card in planned(folder):
        own = card.properties or {}
        same = all(record.get(key, own.get(key)) == own.get(key) for key in ("multiProcessorCount", SHARED))
        if (card.capability, card.multiprocessors) == (capability, multiprocessors) and same:
            yield card


def find_gpu(name: str | Path, vram: int | None = None, reserve: int = 0) -> Gpu:
    """The card `name`: an id, the name that torch prints, or a file that `doctor --dump-card` wrote.

    With `vram` that card with so many bytes on its box, with `reserve` so many kept free. Raises UserError that names the
    nearest cards, or the ones that share a name.
    """
    name = str(name) if isinstance(name, Path) else name
    check_kind("gpu", name, str, "'rtx-4090'")
    found = [_from_file(Path(name))] if re.search(r"\.ya?ml$|/", name) else _called(name)
    if len(found) > 1:
        found = [card for card in found if vram == (card.box_gib or 0) * GIB] or found
    if len(found) > 1:
        raise UserError(f"'{name}' is the name of several cards: give one of {', '.join(card.id for card in found)}")
    return _with_memory(found[0], vram, reserve)


def _from_file(path: Path) -> Gpu:
    card = read_as(Gpu, path, "a card file")
    _given[card.name] = card
    return card


def _called(name: str) -> list[Gpu]:
    words = _words(name)
    key = re.sub(r"-(\d+)-?gi?b$", r"-\1gb", re.sub(PREFIXES, "", words).replace(" ", "-"))
    known = gpu_ids()
    bare, _, box = key.rpartition("-")  # people say the memory too, and leave RTX out
    for one in (key, f"rtx-{key}", bare, f"rtx-{bare}"):
        if one in known and (one.endswith(key) or box == f"{gpu(one).box_gib}gb"):
            return [gpu(one)]
    sizes = [gpu_id for gpu_id in known if re.fullmatch(rf"(rtx-)?{re.escape(key)}-\d+gb", gpu_id)]
    if sizes or (sizes := [card.id for card in gpus().values() if _words(card.name) == words]):
        return [gpu(gpu_id) for gpu_id in sizes]
    if re.search(OTHERS, words):
        raise UserError(f"'{name}' is not covered: the allocator and the kernels here are CUDA's, of NVIDIA's cards")
    hint = did_you_mean(key, known)
    raise UserError(f"no card '{name}': {hint}`latentmeter cards` lists all, `latentmeter doctor --dump-card` adds one")


def _words(name: str) -> str:
    apart = re.sub(r"\b[rg]tx(?=\w)|\d{4}(?=ti\b|super)", r"\g<0> ", name.lower())  # RTX4090, 4070Ti
    return re.sub(r"[^a-z0-9]+", " ", apart).strip()


def _with_memory(card: Gpu, vram: int | None, reserve: int) -> Gpu:
    changed: dict[str, Any] = {}
    if vram is not None and vram != (card.box_gib or 0) * GIB:
        missing = card.box_gib * GIB - card.total_bytes if card.box_gib else MOST_MISSING
        if vram <= missing:
            raise UserError(f"a memory of {format_bytes(vram)}: CUDA reports none of it, {format_bytes(missing)} less")
        changed = {"id": f"{card.id}-{vram // MIB}mib", "total_bytes": vram - missing, "box_gib": None}
    if reserve:
        changed |= {"id": f"{changed.get('id', card.id)}-less-{reserve // MIB}mib", "reserve_bytes": reserve}
    return replace(card, **changed) if changed else card


def cards_of(vram: int) -> list[Gpu]:
    """The cards sold with `vram` bytes, or with the next larger memory: of each architecture the one with the least total.

    Architectures before 7.5 are left out: CUDA 13, which torch brings now, has no kernels for them. Raises UserError
    where there is no card as large.
    """
    able = [card for card in gpus().values() if card.capability >= (7, 5) and card.box_gib]
    boxes = [card.box_gib for card in able if card.box_gib and card.box_gib * GIB >= vram]
    if not boxes:
        most = max(card.box_gib or 0 for card in able)
        raise UserError(f"no card has {format_bytes(vram)}: the largest has {most} GiB")
    fitting = sorted((card for card in able if card.box_gib == min(boxes)), key=lambda card: -card.total_bytes)
    return [*{card.capability: card for card in fitting}.values()]


def assumed_stack(
    card: Gpu, torch_version: str | None = None, cudnn: int | None = None, settings: Mapping[str, str] | None = None
) -> Stack:
    """The stack of `card` with `torch_version` (default: the installed one), its wheel's cuDNN, and default settings.

    Raises UserError for versions that there are not.
    """
    stack = Stack(
        device="cuda",
        gpu=card.name,
        capability=card.capability,
        multiprocessors=card.multiprocessors,
        device_total_bytes=card.total_bytes,
        torch=check_torch(installed("torch") if torch_version is None else torch_version),
        diffusers=installed("diffusers"),
        settings=dict(settings or {}) | ({RESERVE: str(card.reserve_bytes)} if card.reserve_bytes else {}),
    )
    if cudnn is not None:
        check_cudnn(cudnn, stack.torch_release)
    return with_torch(stack, stack.torch, cudnn)
