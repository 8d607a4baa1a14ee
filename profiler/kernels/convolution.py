"""What a convolution borrows on CUDA while it runs.

cuDNN's tensor-core engines work on channels-last data. Given NCHW they copy the input, the weights and the output into
that order first, so the workspace is the three of them. The closed form below says when; it was read off cuDNN's own
plans (9.20, asked without a device, for H200, A100 and RTX 4090 property records), not fitted to measured peaks.
Where anything of the same convolution was planned, `near_plans` knows better which engine runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from profiler.data.stack import Stack, format_cudnn
from profiler.data.units import ELEMENT_BYTES, round_up

HALF = ("float16", "bfloat16")
PLAN_HEADER = 16  # bytes that a staging plan takes besides its copies
# One sample of as many elements is beyond 32-bit indices. Engines compiled at run time take it, which cuDNN names only
# where it finds a driver, and builds in seconds each; what they borrow is simple.
INT32_LIMIT = 1 << 31
RUNTIME_ALIGNMENT = 128  # bytes that they add to each copy
HOPPER_HEADER = 131  # and what every plan of Hopper's own tensor-core engines takes, also without copies
Copies = Literal["input", "both"] | None  # what an engine stages besides the weights


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One forward convolution: shapes (N, C, *spatial) and (K, C / groups, *kernel), one dtype for all."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    dtype: str
    padding: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    channels_last: bool
    transposed: bool

    @property
    def element_size(self) -> int:
        return ELEMENT_BYTES[self.dtype]

    @property
    def kernel_volume(self) -> int:
        """Taps of the kernel."""
        return prod(self.weight[2:])


def output_of(conv: Convolution, x: tuple[int, ...]) -> Convolution:
    """The same convolution of an input of another size."""
    size = output_size(x[2:], conv.weight[2:], conv.padding, conv.stride, conv.dilation)
    return replace(conv, x=x, y=(x[0], conv.y[1], *size))


def output_size(size: Sequence[int], *geometry: Sequence[int]) -> list[int]:
    """Spatial output for an input of `size`, by kernel, padding, stride and dilation, each with a number a dimension."""
    each = zip(size, *geometry, strict=True)
    return [(n + 2 * pad - step * (taps - 1) - 1) // stride + 1 for n, taps, pad, stride, step in each]


def has_cudnn(dtype: str, stack: Stack) -> bool:
    """Whether ATen takes cuDNN for `dtype` at all: bf16 wants Ampere (Convolution.cpp, use_cudnn)."""
    return dtype != "bfloat16" or (stack.capability or (8, 0)) >= (8, 0)


def route(conv: Convolution, stack: Stack) -> str:
    """`cudnn`, `depthwise` (native kernel), or the slow paths `im2col` and `vol2col`: bf16 before Ampere, and 16-bit 3D
    in torch 2.9 and 2.10."""
    if conv.groups == conv.x[1] > 1 and not conv.transposed and not conv.channels_last:
        return "depthwise"  # ATen's own kernel takes NCHW; channels-last goes to cuDNN
    if not has_cudnn(conv.dtype, stack):
        return "vol2col" if len(conv.x) == 5 else "im2col"
    skipped = len(conv.x) == 5 and conv.dtype in HALF and conv.kernel_volume > 1 and not conv.channels_last
    if skipped and skips_cudnn_conv3d(stack):
        return "vol2col"
    return "cudnn"


def path(conv: Convolution, stack: Stack) -> str:
    """Convolutions of one path allocate the same tensors, besides the workspace: the slow ones copy to contiguous ones,
    those that go by columns copy the weight before the output."""
    if route(conv, stack).endswith("2col"):
        return "columns"
    return "any order" if has_cudnn(conv.dtype, stack) else "contiguous"


def workspace_bytes(conv: Convolution, stack: Stack) -> int:
    """Bytes borrowed besides input, output and layout copies of tensors that are not contiguous."""
    kind = route(conv, stack)
    if kind == "depthwise":
        return 0
    if kind == "im2col" and conv.kernel_volume == 1 == max(conv.stride) and not any(conv.padding):
        return 0  # ConvolutionMM2d.cu (requires_columns): the input is its own matrix of columns
    if kind in ("im2col", "vol2col"):
        # They and NaiveDilatedConvolution.cu unfold one sample at a time: every output position with all its taps.
        return conv.x[1] * conv.kernel_volume * prod(conv.y[2:]) * conv.element_size
    if is_beyond_32_bit(conv):
        return _runtime_compiled_bytes(conv, stack)
    conv = within_32_bit(conv)
    if conv.kernel_volume == 1 == max(conv.stride) == conv.groups and not any(conv.padding):
        return 0  # a matrix product that cuDNN hands to cuBLASLt (profiler/kernels/no_driver.py)
    header = HOPPER_HEADER if stack.capability == (9, 0) else 0
    if conv.channels_last:
        return _channels_last_bytes(conv, stack) or (header if conv.x[1] >= 8 else 0)
    copies = _staged_16_bit(conv) if conv.dtype in HALF else _staged_32_bit(conv, stack)
    if copies is None:
        return 0
    return _copies_bytes(conv, output=copies == "both") + (header if copies == "both" else 0)


def is_beyond_32_bit(conv: Convolution) -> bool:
    """Whether one sample of its input or output has more elements than 32-bit indices count."""
    return max(prod(conv.x[1:]), prod(conv.y[1:])) >= INT32_LIMIT


def within_32_bit(conv: Convolution) -> Convolution:
    """What runs of it at a time: cuDNN's engines split a batch into the most samples that 32-bit indices count."""
    samples = min(conv.x[0], INT32_LIMIT // max(prod(conv.x[1:]), prod(conv.y[1:])))
    return replace(conv, x=(samples, *conv.x[1:]), y=(samples, *conv.y[1:]))


def _runtime_compiled_bytes(conv: Convolution, stack: Stack) -> int:
    """NCHW tensors are copied as they are, whole batches, channels not padded; weights of one tap need no copy.

    Read off the plans of H200, B200, A100, RTX 3090, 4090 and PRO 6000, which are the same. Where these engines do not
    run (no tensor cores for the dtype, or an odd number of 16-bit channels), a direct kernel runs and borrows nothing.
    """
    even = conv.element_size == 4 or conv.x[1] % 2 == 0
    if conv.channels_last or not even or not _has_tensor_cores(conv, stack):
        return 0
    copied = [conv.x, conv.y, *([conv.weight] if conv.kernel_volume > 1 else [])]
    return sum(prod(shape) * conv.element_size + RUNTIME_ALIGNMENT for shape in copied)


def _channels_last_bytes(conv: Convolution, stack: Stack) -> int:
    """16 bits are read as they lie. Engines of fp32 without tensor cores want planes, so all three are copied.

    With TF32 input and weights are copied, rounded, in the order they have; Hopper and data-centre Blackwell round as
    they read.
    """
    if conv.dtype in HALF:
        return 0
    if not _has_tensor_cores(conv, stack):
        return _copies_bytes(conv, output=True)
    if (stack.capability or (8, 0))[0] in (9, 10):
        return 0
    return (prod(conv.x) + prod(conv.weight)) * conv.element_size + PLAN_HEADER


def _has_tensor_cores(conv: Convolution, stack: Stack) -> bool:
    """Whether Ampere's tensor cores or later ones take the dtype: fp32 if it may be rounded to TF32."""
    return (stack.capability or (8, 0))[0] >= 8 and (conv.dtype in HALF or stack.tf32)


def _staged_16_bit(conv: Convolution) -> Copies:
    if conv.x[1] < 8 and len(conv.x) == 5 and conv.y[1] % 128 == 0:
        return "both"  # 3D engines pad pixels to eight channels for full tiles of outputs
    if conv.x[1] < 8 or (conv.y[1] < 16 and conv.x[1] < 16):
        return None  # too few channels for a tensor core: a direct kernel reads NCHW
    return "both"


def _staged_32_bit(conv: Convolution, stack: Stack) -> Copies:
    """fp32 runs as TF32 by default. Data-centre engines from Hopper on stage both sides, others the input alone, unless
    there are few outputs. Pixels and latents are read by direct kernels, but on data-centre Blackwell."""
    major = (stack.capability or (8, 0))[0]
    if not _has_tensor_cores(conv, stack):
        return None
    if conv.x[1] < 16:
        return "both" if major == 10 else None
    return "both" if major in (9, 10) or conv.y[1] < 16 else "input"


def copied_bytes(conv: Convolution, tensors: str, *, padded: bool = True) -> int:
    """Channels-last copies of those of input x, output y and weights w that `tensors` names, channels padded to 16 bytes."""
    pad = 16 // conv.element_size if padded else 1
    elements = {
        "x": conv.x[0] * round_up(conv.x[1], pad) * prod(conv.x[2:]),
        "y": conv.y[0] * round_up(conv.y[1], pad) * prod(conv.y[2:]),
        "w": round_up(conv.weight[0], pad) * round_up(conv.weight[1], pad) * conv.kernel_volume,
    }
    return sum(elements[name] for name in tensors) * conv.element_size


def _copies_bytes(conv: Convolution, *, output: bool) -> int:
    """A plan that stages input, weights and, if asked, output. 1x1 weights are the same in both orders, and not copied."""
    return copied_bytes(conv, "x" + "y" * output + "w" * (conv.kernel_volume > 1)) + PLAN_HEADER


def most_workspace_bytes(conv: Convolution) -> int:
    """What the engine of cuDNN takes that stages most: input, weights and output, whatever their order."""
    return _copies_bytes(conv, output=True) + HOPPER_HEADER


def skips_cudnn_conv3d(stack: Stack) -> bool:
    """cuDNN 9.8 to 9.14 gave wrong 16-bit conv3d results, so torch 2.9 turned it off; 2.9.1 and 2.10 look at the version.

    Channels-last data go to cuDNN all the same.
    """
    release, cudnn = stack.torch_release, stack.cudnn or 0
    if release < (2, 9, 0) or release >= (2, 11, 0):
        return False
    return release == (2, 9, 0) or 90800 <= cudnn < 91500


def why_without_cudnn(stack: Stack) -> str:
    """Why 16-bit convolutions of this stack go without cuDNN, and what mends it; empty where they do not."""
    if skips_cudnn_conv3d(stack):
        always = stack.torch_release == (2, 9, 0)
        which = "" if always else f" with cuDNN {format_cudnn(stack.cudnn)}"
        mends = "torch 2.11" if always else "torch 2.11 or cuDNN 9.15"
        return f"torch {stack.torch}{which} keeps 16-bit 3D convolutions from cuDNN (pytorch issue 166643), {mends} does not"
    if not has_cudnn("bfloat16", stack):
        return "cuDNN takes bf16 from Ampere on, and this card is older; fp16 goes by cuDNN"
    return ""
