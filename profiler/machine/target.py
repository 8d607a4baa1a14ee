"""The stack that an estimate is for: a named card's, or this machine's."""

import ctypes

from profiler.data.stack import Stack


def target_stack(
    gpu: str | None, torch_version: str | None, cudnn: int | None, stack: Stack | None = None
) -> tuple[Stack, int | None]:
    """The stack that an estimate is for, which is `stack` where one is given, and its context bytes if they are known."""
    if stack is not None:
        return stack, None
    from profiler.machine.cards import DEFAULT_GPU, assumed_stack, find_gpu

    if gpu is None and torch_version is None and cudnn is None and _has_driver():
        import torch

        if torch.cuda.is_available():
            from profiler.machine.live import live_stack

            return live_stack("cuda"), None
    card = find_gpu(gpu or DEFAULT_GPU)
    return assumed_stack(card, torch_version, cudnn), card.context_bytes


def _has_driver() -> bool:
    """Whether CUDA's driver can be loaded: without it torch sees no card, and need not be imported to say so."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
