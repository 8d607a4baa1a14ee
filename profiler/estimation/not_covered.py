"""What a card does otherwise than a trace follows it, as notes of an answer: fused, compiled, cast behind its back."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch._dynamo import eval_frame

from profiler.stages.call import hooks_of

COMPILED = "torch.compile is not covered: what is compiled is estimated as it runs uncompiled"
SWITCHED = "set_autocast_enabled is not followed, so it cast nothing here: `with torch.autocast(...)` is"
FUSED = "run by fused kernels on a card, here operation by operation: activations and workspace differ"
CAST = "layerwise casting is traced as its hooks run, but was not compared with a card; what it casts is no weight then"
RECURRENT, IN_EVAL = (nn.RNNBase, nn.RNNCellBase), (nn.TransformerEncoderLayer, nn.MultiheadAttention)


def not_covered(module: nn.Module) -> dict[str, str]:
    """Notes on the parts of `module`, each with the first of its kind."""
    found = defaultdict[str, list[str]](list)
    for path, part in module.named_modules():
        if isinstance(part, RECURRENT) or (isinstance(part, IN_EVAL) and not part.training):
            found["fused"].append(f"{FUSED}; first {type(part).__name__} {path}".rstrip())
        if any(type(hook).__name__ == "LayerwiseCastingHook" for hook in hooks_of(part)):
            found["casting"].append(f"{CAST}; first in {path}")
    return {name: texts[0] for name, texts in found.items()}


@contextmanager
def hearing() -> Iterator[dict[str, str]]:
    """Notes on what is done meanwhile: something compiled is called, or autocast is switched otherwise than by a context."""
    heard: dict[str, str] = {}
    chosen: Any = getattr(eval_frame, "_callback_from_stance", None)  # asked at each call of what torch.compile made
    switch = torch.set_autocast_enabled

    def choose(compiler: Any) -> Any:
        heard.update({"compile": COMPILED} if compiler else {})
        return chosen(compiler)

    def switched(*args: Any) -> None:
        if sys._getframe(1).f_globals.get("__name__") != torch.amp.autocast_mode.__name__:
            heard["autocast"] = SWITCHED
        switch(*args)

    with (
        patch.object(eval_frame, "_callback_from_stance", choose, create=True),
        patch.object(torch, "set_autocast_enabled", switched),
    ):
        yield heard
