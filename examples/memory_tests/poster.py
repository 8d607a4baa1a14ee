"""A small project of somebody's own: a pipeline in pixel space on diffusers' DiT, and a module that refines its pictures."""

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DiTTransformer2DModel, ModelMixin
from torch import nn


class Refiner(ModelMixin):
    """Sharpens a picture in square patches, by a residual network over their pixels: (B, 3, H, W) in and out."""

    def __init__(self, patch: int = 16, width: int = 1024, ratio: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(3 * patch**2, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
            )
            for _ in range(depth)
        )
        self.back = nn.Linear(width, 3 * patch**2)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        B, C, H, W = picture.shape
        p = self.patch
        x = picture.reshape(B, C, H // p, p, W // p, p).permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C * p * p)
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        x = self.back(x).reshape(B, H // p, W // p, C, p, p).permute(0, 3, 1, 4, 2, 5)
        return picture + x.reshape(B, C, H, W)


class PosterPipeline(DiffusionPipeline):
    """Pictures of a class: sampled small in pixel space by `transformer`, enlarged four times, made sharp by `refiner`."""

    model_cpu_offload_seq = "transformer->refiner"

    def __init__(self, transformer: DiTTransformer2DModel, refiner: Refiner, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, refiner=refiner, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, labels: list[int], steps: int = 20) -> torch.Tensor:
        device, dtype, side = self._execution_device, self.transformer.dtype, self.transformer.config.sample_size
        x = torch.randn(len(labels), 3, side, side, device=device, dtype=dtype)
        classes = torch.tensor(labels, device=device)
        self.scheduler.set_timesteps(steps, device=device)
        for time in self.scheduler.timesteps:
            noise = self.transformer(x, timestep=time.expand(len(labels)), class_labels=classes).sample
            x = self.scheduler.step(noise, time, x).prev_sample
        large = nn.functional.interpolate(x, scale_factor=4, mode="nearest")
        picture = self.refiner(large)
        self.maybe_free_model_hooks()
        return picture


def make_pipeline() -> PosterPipeline:
    """The pipeline as it is published, in bf16."""
    transformer = DiTTransformer2DModel(
        sample_size=256, patch_size=8, in_channels=3, num_layers=12, num_attention_heads=16, attention_head_dim=64
    )
    return PosterPipeline(transformer, Refiner(), DDIMScheduler()).to(torch.bfloat16)
