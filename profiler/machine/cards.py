"""Cards that an estimate can be for, from `configs/gpus/*.yaml`, and the stack that is assumed on them."""

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt

from profiler.data.stack import Stack
from profiler.errors import UserError
from profiler.files.load import read_as
from profiler.files.paths import CONFIGS, installed
from profiler.machine.versions import check_cudnn, check_torch, with_torch

GPUS = CONFIGS / "gpus"
DEFAULT_GPU = "h200"


class Gpu(BaseModel):
    """One card. `total_bytes` as CUDA reports it; `context_bytes` is None until measured.

    `properties` is the device property record by which cuDNN plans for this card without one: all of its 23 keys, in
    cuDNN's own names and units. None: no record is known, and nothing can be planned for the card or run dry on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    capability: tuple[int, int]
    multiprocessors: PositiveInt
    total_bytes: PositiveInt
    context_bytes: PositiveInt | None = None
    properties: dict[str, Any] | None = None
    sources: dict[str, str]


def gpu_ids() -> list[str]:
    """The ids of all cards. Reads no file."""
    return sorted(path.name.removesuffix(".yaml") for path in GPUS.glob("*.yaml"))


@cache
def gpu(gpu_id: str) -> Gpu:
    """One card; reads its file alone. Raises UserError with every error of the file."""
    return read_as(Gpu, GPUS / f"{gpu_id}.yaml", "a card file")


def gpus() -> dict[str, Gpu]:
    """Every card that has a file, by id."""
    return {gpu_id: gpu(gpu_id) for gpu_id in gpu_ids()}


def gpu_named(name: str | None) -> Gpu | None:
    """The card whose own name is `name`, as CUDA says it."""
    return next((card for card in gpus().values() if card.name == name), None)


def find_gpu(name: str) -> Gpu:
    """The card `name`. Raises UserError that names the cards there are."""
    key = name.lower().replace("_", "-").replace(" ", "-")
    known = gpu_ids()
    if key in known:
        return gpu(key)
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"no card '{name}': {hint}known: {', '.join(known)}")


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
        settings=dict(settings or {}),
    )
    if cudnn is not None:
        check_cudnn(cudnn, stack.torch_release)
    return with_torch(stack, stack.torch, cudnn)
