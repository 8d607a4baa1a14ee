"""What a convolution borrows on CUDA while it runs.

cuDNN's tensor-core engines work on channels-last data. Given NCHW they copy the input, the weights and the output into
that order first, so the workspace is the three of them. The closed form below says when; it was read off cuDNN's own
plans (9.20, asked without a device, for H200, A100 and RTX 4090 property records), not fitted to measured peaks.
"""

from dataclasses import dataclass
from math import prod

import torch

from profiler.stack import Stack

HALF = (torch.float16, torch.bfloat16)
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
PLAN_HEADER = 16  # bytes that a staging plan takes besides its copies
HOPPER_HEADER = 131  # and what every plan of a Hopper tensor-core engine takes, also without copies


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One forward convolution: shapes (N, C, *spatial) and (K, C / groups, *kernel), one dtype for all."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    dtype: torch.dtype
    padding: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    channels_last: bool
    transposed: bool

    @property
    def element_size(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    @property
    def kernel_volume(self) -> int:
        """Taps of the kernel."""
        return prod(self.weight[2:])


def has_cudnn(dtype: torch.dtype, stack: Stack) -> bool:
    """Whether ATen takes cuDNN for `dtype` at all: bf16 wants Ampere (Convolution.cpp, use_cudnn)."""
    return dtype != torch.bfloat16 or (stack.capability or (8, 0)) >= (8, 0)


def route(conv: Convolution, stack: Stack) -> str:
    """`cudnn`, `depthwise` (native kernel), or the slow paths `im2col` and `vol2col`: bf16 before Ampere, and 16-bit 3D
    in torch 2.9 and 2.10."""
    if _is_depthwise(conv):
        return "depthwise"
    if not has_cudnn(conv.dtype, stack):
        return "vol2col" if len(conv.x) == 5 else "im2col"
    if len(conv.x) == 5 and conv.dtype in HALF and conv.kernel_volume > 1 and _skips_cudnn_conv3d(conv, stack):
        return "vol2col"
    return "cudnn"


def workspace_bytes(conv: Convolution, stack: Stack) -> int:
    """Bytes borrowed besides input, output and layout copies of tensors that are not contiguous."""
    kind = route(conv, stack)
    if kind == "depthwise":
        return 0
    if kind == "im2col" and conv.kernel_volume == 1:
        return 0  # ConvolutionMM2d.cu: the input is its own matrix of columns
    if kind in ("im2col", "vol2col"):
        # They and NaiveDilatedConvolution.cu unfold one sample at a time: every output position with all its taps.
        return conv.x[1] * conv.kernel_volume * prod(conv.y[2:]) * conv.element_size
    staged = 0
    if not conv.channels_last:
        staged = _staging_16_bit(conv) if conv.dtype in HALF else _staging_32_bit(conv, stack)
    uses_tensor_core = staged > 0 or (conv.channels_last and conv.x[1] >= 8)
    return staged + (HOPPER_HEADER if uses_tensor_core and stack.capability == (9, 0) else 0)


def _staging_16_bit(conv: Convolution) -> int:
    if conv.x[1] < 8 or (conv.y[1] < 16 and conv.x[1] < 16):
        return 0  # too few channels for a tensor core: a direct kernel reads NCHW
    return _copies(conv, align=8, x=True, y=True)


def _staging_32_bit(conv: Convolution, stack: Stack) -> int:
    """fp32 runs as TF32 by default. Data-centre engines from Hopper on stage both sides, others the input alone."""
    if conv.x[1] < 32 or stack.settings.get("allow_tf32") == "false" or (stack.capability or (8, 0)) < (8, 0):
        return 0  # TF32 came with Ampere
    if stack.capability == (8, 9) and len(conv.x) == 4 and conv.kernel_volume == 1:
        return 0  # on Ada a 1x1 convolution of images is a matrix product that reads NCHW
    if (stack.capability or (0, 0))[0] in (9, 10):
        if conv.kernel_volume == 1 and conv.y[1] < conv.x[1]:
            return _copies(conv, align=4, x=True, y=False)
        return _copies(conv, align=4, x=True, y=True)
    return _copies(conv, align=4, x=True, y=False)


def _copies(conv: Convolution, *, align: int, x: bool, y: bool) -> int:
    """Channels-last copies, channels padded to `align`; 1x1 weights are the same in both orders and are not copied."""
    elements = 0
    if x:
        elements += conv.x[0] * _pad(conv.x[1], align) * prod(conv.x[2:])
    if y:
        elements += conv.y[0] * _pad(conv.y[1], align) * prod(conv.y[2:])
    if conv.kernel_volume > 1:
        elements += _pad(conv.weight[0], align) * _pad(conv.weight[1], align) * conv.kernel_volume
    return elements * conv.element_size + PLAN_HEADER


def _pad(channels: int, align: int) -> int:
    return -(-channels // align) * align


def _is_depthwise(conv: Convolution) -> bool:
    # ATen's own depthwise kernel takes NCHW; channels-last goes to cuDNN.
    return conv.groups == conv.x[1] > 1 and not conv.transposed and not conv.channels_last


def _skips_cudnn_conv3d(conv: Convolution, stack: Stack) -> bool:
    """cuDNN 9.8 to 9.14 gave wrong 16-bit conv3d results, so torch 2.9 turned it off; 2.9.1 and 2.10 look at the version."""
    release, cudnn = stack.torch_release, stack.cudnn or 0
    if conv.channels_last or release < (2, 9, 0) or release >= (2, 11, 0):
        return False
    return release == (2, 9, 0) or 90800 <= cudnn < 91500
