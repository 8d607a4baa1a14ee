"""torchvision's nearest-neighbour resize, for an environment without torchvision.

CosmosTransformer3DModel resizes its padding mask with it and fails without it. torchvision pins a torch release, so this
package does not ask for it.
"""

import importlib
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn


def provide_resize() -> None:
    """Give diffusers' Cosmos module what it imports from torchvision, where it could not."""
    module: Any = importlib.import_module("diffusers.models.transformers.transformer_cosmos")
    if not hasattr(module, "transforms"):
        module.transforms = SimpleNamespace(
            functional=SimpleNamespace(resize=_resize), InterpolationMode=SimpleNamespace(NEAREST="nearest")
        )


def _resize(image: torch.Tensor, size: list[int], interpolation: str) -> torch.Tensor:
    """Half precision is resized in fp32, as torchvision does (`_cast_squeeze_in`)."""
    return nn.functional.interpolate(image.float(), size=size, mode=interpolation).to(image.dtype)
