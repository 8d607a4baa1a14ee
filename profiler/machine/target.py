"""The stack that an estimate is for: a named card's, or this machine's."""

import ctypes
from dataclasses import replace
from pathlib import Path

from profiler.data.stack import RESERVE, Stack
from profiler.data.units import parse_bytes
from profiler.errors import UserError, check_kind
from profiler.machine.environment import check_settings, context_with, need_allocator, settings_here


def target_stack(
    gpu: str | Path | None,
    torch_version: str | None,
    cudnn: int | None,
    stack: Stack | None = None,
    alloc_conf: str | None = None,
    vram: str | None = None,
    reserve: str | None = None,
) -> tuple[Stack, int | None]:
    """The stack that an estimate is for, which is `stack` where one is given, and its context bytes if they are known.

    `alloc_conf` sets up its allocator; `vram` is the memory on the card's box, `reserve` what is kept free for others.
    Raises UserError for what a stack says itself, versions that there are not, settings without an estimate.
    """
    check_kind("stack", stack, Stack, "the `stack` of an estimate")
    for name, value in {"gpu": gpu, "vram": vram, "torch": torch_version, "cudnn": cudnn}.items():
        if stack is not None and value is not None:
            raise UserError(f"{name}: a stack has its own: leave it out, or change the stack by dataclasses.replace")
    found, context = (stack, None) if stack is not None else _named_stack(gpu, torch_version, cudnn, vram)
    if reserve is not None:
        need_allocator(found.device)
        found = replace(found, settings=found.settings | {RESERVE: str(parse_bytes(reserve))})
    if alloc_conf is not None:
        need_allocator(found.device)
        found = found.with_alloc_conf(alloc_conf)
    check_settings(found)
    return found, context_with(context, found.settings)


def _named_stack(
    gpu: str | Path | None, torch_version: str | None, cudnn: int | None, vram: str | None
) -> tuple[Stack, int | None]:
    from profiler.machine.cards import DEFAULT_GPU, assumed_stack, find_gpu

    if gpu is None and torch_version is None and cudnn is None and has_driver():
        import torch

        if torch.cuda.is_available():
            from profiler.machine.live import live_stack

            return live_stack("cuda"), None
    card = find_gpu(DEFAULT_GPU if gpu is None else gpu, None if vram is None else parse_bytes(vram))
    return assumed_stack(card, torch_version, cudnn, settings_here()), card.context_bytes


def has_driver() -> bool:
    """Whether CUDA's driver can be loaded: without it torch sees no card, and need not be imported to say so."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
