"""Latents between VAE and denoiser: the arithmetic of each kind, and that the way back is its inverse."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from profiler.models.build import build, component_class
from profiler.models.find import find_model
from profiler.models.normalization import to_denoiser, to_vae
from profiler.models.spec import Normalization

TINY = Path(__file__).parent


class Vae(nn.Module):
    """As much of a VAE as normalisation reads."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = type("Config", (SimpleNamespace,), {"get": lambda self, name: vars(self).get(name)})(**config)


def test_mean_and_std_of_the_config() -> None:
    vae = find_model(str(TINY / "tiny-video.yaml")).vae
    assert vae is not None
    scaled = to_denoiser(
        torch.zeros(1, 4, 2, 3, 3), build(component_class(vae.class_name), vae.config, torch.float32), "mean-std"
    )
    expected = -torch.tensor([-0.7, 0.1, -0.9, 0.2]) / torch.tensor([2.8, 1.4, 2.3, 2.6])
    torch.testing.assert_close(scaled[0, :, 0, 0, 0], expected)


def test_mean_and_std_of_each_frame() -> None:
    vae = Vae(latents_mean=[0.0, 1.0, 2.0, 10.0, 11.0, 12.0], latents_std=[1.0] * 6, scaling_factor=1.0)
    scaled = to_denoiser(torch.zeros(1, 2, 2, 1, 1), vae, "mean-std")  # two channels, of three frames the first two
    assert scaled.flatten().tolist() == [0, -1, -10, -11]


def test_scale_and_shift() -> None:
    scaled = to_denoiser(torch.ones(1, 4, 2, 2), Vae(scaling_factor=0.5, shift_factor=0.2), "scale")
    torch.testing.assert_close(scaled, torch.full((1, 4, 2, 2), 0.4))


def test_batch_norm_sees_2x2_patches_as_channels() -> None:
    vae = Vae(batch_norm_eps=0.0)
    vae.bn = nn.BatchNorm2d(4)
    vae.bn.running_mean = torch.tensor([0.0, 1.0, 2.0, 3.0])
    scaled = to_denoiser(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), vae, "batch-norm")
    assert scaled.shape == (1, 4, 1, 1)
    assert scaled.flatten().tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["scale", "mean-std", "batch-norm", "none"])
def test_the_way_back_is_the_inverse(kind: Normalization) -> None:
    vae = Vae(
        scaling_factor=0.5, shift_factor=0.2, latents_mean=[1.0, 2.0], latents_std=[3.0, 4.0], batch_norm_eps=1e-4
    )
    vae.bn = nn.BatchNorm2d(8)
    vae.bn.running_mean = torch.arange(8.0)
    latents = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(to_vae(to_denoiser(latents, vae, kind), vae, kind), latents)
