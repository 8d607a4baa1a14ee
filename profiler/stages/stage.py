"""A workload and a device in, a ready call out: real diffusers modules, real tensors, one callable.

The estimate runs it on `meta`, the measurement on `cuda` or `cpu`, both through the phases of `phases.py`.
"""

import copy
import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from profiler.data.records import AppliedOption
from profiler.data.workload import VAE_STAGES, AttentionName, Workload
from profiler.errors import ModelError, UserError
from profiler.models.build import TORCH_DTYPES, component_module, materialize
from profiler.models.normalization import latents_of, to_denoiser, to_vae
from profiler.models.spec import ModelSpec
from profiler.stages.options import active_backend, apply_options
from profiler.stages.phases import Runnable
from profiler.stages.template import fill_template, symbols

SDPA: dict[AttentionName, SDPBackend] = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}


class Stage(Runnable):
    """One workload of `spec`, ready to run phase by phase. `weights=False` never reads a checkpoint."""

    def __init__(self, workload: Workload, spec: ModelSpec, *, weights: bool = False) -> None:
        spec.check(workload)
        self.workload = workload
        self.spec = spec
        self.history = workload.history
        self.asked = workload.options
        self.device = torch.device("meta")
        self.inputs: Any = None
        self.options: dict[str, AppliedOption] = {}
        self._weights = weights

    @cached_property
    def module(self) -> nn.Module:  # type: ignore[override]
        """The component, built when it is first asked for. Raises UserError where it lacks what the stage runs."""
        module = component_module(self.spec, self.workload, weights=self._weights)
        if self.workload.stage in ("encode", "roundtrip") and not hasattr(module, "encode"):
            name = type(module).__name__
            raise UserError(f"{self.spec.id}: {name} decodes only; stage '{self.workload.stage}' needs an encoder")
        return module

    def load(self, device: torch.device) -> None:
        """Put the weights on `device` and apply the memory options."""
        if self.workload.history.device_map:
            _warm_up_allocator(self.module, device)
        materialize(self.module, device)
        self.device = device
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = self.workload.options.benchmark
        self.options = apply_options(self.module, self.workload, self.spec.latent)

    def make_inputs(self, device: torch.device) -> Any:
        """Allocate the inputs on `device`, by position (tuple) or by name (dict)."""
        stage, dtype = self.workload.stage, TORCH_DTYPES[self.workload.dtype]
        if stage in VAE_STAGES:
            pixels = self.spec.latent.pixel_shape(self.workload.batch, self.workload)
            shape = self.latent_shape if stage == "decode" else pixels
            self.inputs = (torch.randn(shape, dtype=dtype, device=device),)
            config: Any = self.module.config
            if stage != "encode" and config.get("timestep_conditioning"):
                self.inputs += (torch.zeros(self.workload.batch, dtype=dtype, device=device),)
        else:
            assert self.spec.denoiser is not None
            template: Any = self.spec.denoiser.inputs
            if stage == "patch-embed":
                template = self.spec.patch_embed().inputs
                dtype = next(
                    self.module.parameters()
                ).dtype  # some stay in fp32, and their model casts what it gives them
            self.inputs = fill_template(template, symbols(self.spec, self.workload), dtype, device)
        return self.inputs

    def earlier(self) -> "Iterator[Stage]":
        """The same loaded module at each size that the workload's history asks for, inputs still to be made."""
        for frames, height, width in self.workload.history.sizes:
            other = copy.copy(self)
            other.workload = replace(self.workload, frames=frames, height=height, width=width)
            self.spec.check(other.workload)
            yield other

    def __call__(self) -> Any:
        """Run the stage once, without gradients. Returns the output tensor, or a tuple of them."""
        with ExitStack() as modes:
            for mode in self._modes():
                modes.enter_context(mode)
            return getattr(self, "_" + self.workload.stage.replace("-", "_"))()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The VAE's latents: (B, C, T, H, W), or (B*F, C, H, W) for an image VAE."""
        return self.spec.latent.shape(self.workload.batch, self.workload)

    def check_output(self, output: Any) -> None:
        """Raise ModelError if a VAE stage gave a shape that its contract does not: a broken option, most often."""
        if self.workload.stage not in VAE_STAGES:
            return
        encodes = self.workload.stage == "encode"
        expected = self.latent_shape if encodes else self.spec.latent.decoded_shape(self.workload.batch, self.workload)
        if tuple(output.shape) != expected:
            options = self.workload.options.key or "no memory options"
            raise ModelError(
                f"{self.workload.stage} gave shape {tuple(output.shape)}, the contract says {expected} ({options})"
            )

    def _modes(self) -> Iterator[AbstractContextManager[Any]]:
        """The attention that is asked for, whatever else is switched on; then inference mode, and CUDA's autocast.

        On a card autocast runs without gradients as diffusers' pipelines do: in inference mode it would keep no weights. A
        CPU is refused before.
        """
        options = self.workload.options
        yield sdpa_kernel(SDPA[options.attention] if options.attention else list(SDPA.values()))
        yield active_backend(options.attention_backend)
        is_kept = self.device.type == "cuda" and options.autocast is not None
        yield torch.no_grad() if is_kept else torch.inference_mode()
        if options.autocast is not None:
            yield torch.autocast("cuda", dtype=TORCH_DTYPES[options.autocast])

    def _encode(self) -> torch.Tensor:
        return latents_of(self.module.encode(self.inputs[0]))  # type: ignore[operator]

    def _decode(self, latents: torch.Tensor | None = None) -> torch.Tensor:
        arguments = self.inputs if latents is None else (latents, *self.inputs[1:])
        decode: Any = self.module.decode
        # Temporal decoders of image VAEs (SVD) take a clip as rows and ask how many belong together.
        extra = {"num_frames": self.workload.frames} if "num_frames" in inspect.signature(decode).parameters else {}
        output = decode(*arguments, **extra)
        sample: torch.Tensor = getattr(output, "sample", output)
        return sample

    def _roundtrip(self) -> torch.Tensor:
        latents = latents_of(self.module.encode(self.inputs[0]))  # type: ignore[operator]
        if tuple(latents.shape) != self.latent_shape:
            raise ModelError(f"encode gave shape {tuple(latents.shape)}, the contract says {self.latent_shape}")
        kind = self.spec.latent.normalization
        # Rebound, so that the encoder's latents do not outlive their last use.
        latents = to_vae(to_denoiser(latents, self.module, kind), self.module, kind)
        return self._decode(latents)

    def _patch_embed(self) -> Any:
        return self.module(*self.inputs)

    def _denoise(self) -> Any:
        """Latents, or a tuple where there are more than one: video and audio, or a list of images."""
        tensors = tuple(leaf for leaf in tree_leaves(self.module(**self.inputs)) if isinstance(leaf, torch.Tensor))
        return tensors[0] if len(tensors) == 1 else tensors


def _warm_up_allocator(module: nn.Module, device: torch.device) -> None:
    """Half the model's elements in one block, dropped at once: what diffusers does before it loads by a device map.

    Source: `_caching_allocator_warmup` of diffusers `models/model_loading_utils.py`. Weights are then carved from it.
    """
    state = module.state_dict(keep_vars=True).values()  # detached ones would count as new
    dtype = next((tensor.dtype for tensor in state if tensor.is_floating_point()), None)
    torch.empty(max(1, sum(tensor.numel() for tensor in state) // 2), dtype=dtype, device=device)
