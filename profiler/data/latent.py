"""Closed-form latent mathematics: sizes, tokens, layouts, compression and attention cost, from integers alone.

No torch and no I/O: what is here holds for every model and device, and the estimator and the measurement are both
checked against it. Sizes that do not divide are rounded up, which never undercounts; whether a model pads, crops or
refuses them is for its contract to say.

Shape legend: B batch, C channels, T latent frames, H and W latent height and width. Lower case t, h, w: the size of a
patch or of a window along those axes. Every bad argument is a UserError (a ValueError) that names the argument.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, TypedDict, get_args

from profiler.data.units import ELEMENT_BYTES, MIB, ceil_div
from profiler.errors import UserError

LatentDtype = Literal["fp32", "fp16", "bf16", "fp8"]
Layout = Literal["BCTHW", "BTCHW", "BTHWC", "BCHW"]
Triple = tuple[int, int, int]

LATENT_DTYPES: tuple[LatentDtype, ...] = get_args(LatentDtype)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


class LatentEstimate(TypedDict):
    """What `estimate_video_latent_memory` returns."""

    latent_shape: tuple[int, int, int, int, int]
    num_elements: int
    memory_bytes: int
    memory_mb: float
    tokens_per_video: int


@dataclass(frozen=True)
class CompressionRatio:
    """How many times smaller the latent is than its pixels: in elements, and in bytes once both dtypes are known."""

    by_elements: float
    by_bytes: float


@dataclass(frozen=True)
class AttentionCost:
    """One self-attention over all heads and the whole batch.

    `score_elements` are query-key pairs, `score_bytes` what they take if a kernel materialises them all (flash kernels
    do not), `flops` those of QK^T and of the product with V; projections and softmax are not counted.
    """

    score_elements: int
    score_bytes: int
    flops: int


def estimate_video_latent_memory(
    num_frames: int,
    height: int,
    width: int,
    latent_channels: int,
    spatial_compression: int,
    temporal_compression: int,
    batch_size: int = 1,
    dtype: LatentDtype = "fp16",
    patch_size: int = 1,
) -> LatentEstimate:
    """The latent of `batch_size` videos of `num_frames` x `height` x `width` pixels.

    Returns `latent_shape` (B, C, T, H, W), `num_elements`, `memory_bytes`, `memory_mb` (2^20 bytes, 4 decimals) and
    `tokens_per_video` = T * ceil(H / patch_size) * ceil(W / patch_size), in which the batch does not count.

    T = ceil(num_frames / temporal_compression), H and W likewise by `spatial_compression`. A causal VAE, which encodes
    its first frame alone, gives (num_frames - 1) / r + 1; for the r*k + 1 frames that it takes that is the same number:
    81 frames by 4 are ceil(81 / 4) = (81 - 1) / 4 + 1 = 21.

    Raises UserError for a size that is not a positive int, and for an unknown dtype.
    """
    _require_positive(
        num_frames=num_frames,
        height=height,
        width=width,
        latent_channels=latent_channels,
        spatial_compression=spatial_compression,
        temporal_compression=temporal_compression,
        batch_size=batch_size,
        patch_size=patch_size,
    )
    element_size = _dtype_bytes("dtype", dtype)
    grid = patch_grid(num_frames, height, width, (temporal_compression, spatial_compression, spatial_compression))
    shape = (batch_size, latent_channels, *grid)
    memory_bytes = prod(shape) * element_size
    return {
        "latent_shape": shape,
        "num_elements": prod(shape),
        "memory_bytes": memory_bytes,
        "memory_mb": round(memory_bytes / MIB, 4),
        "tokens_per_video": count_tokens(*grid, patch=(1, patch_size, patch_size)),
    }


def patch_grid(frames: int, height: int, width: int, patch: Triple) -> Triple:
    """How many spacetime patches (t, h, w) lie along each axis of a grid: (ceil(frames / t), ...).

    The tubelet embedding of ViViT (Arnab et al. 2021, section 3.2), but for its edges: there floor, here ceil. Raises
    UserError.
    """
    _require_positive(frames=frames, height=height, width=width)
    t, h, w = _triple("patch", patch)
    return ceil_div(frames, t), ceil_div(height, h), ceil_div(width, w)


def count_tokens(frames: int, height: int, width: int, patch: Triple) -> int:
    """Tokens of one video: the patches of `patch_grid`. For latent tokens give the latent T, H, W. Raises UserError."""
    return prod(patch_grid(frames, height, width, patch))


def count_clip_tokens(seconds: int, fps: int, patches_per_frame: int, temporal_patch: int = 1) -> int:
    """Tokens of a clip: ceil(seconds * fps / temporal_patch) * patches_per_frame.

    Five seconds at 30 fps with 256 patches a frame are 38,400. Whole seconds and frames a second only, so that no
    rounding is hidden: for 29.97 fps count the frames and use `count_tokens`. Raises UserError.
    """
    _require_positive(seconds=seconds, fps=fps, patches_per_frame=patches_per_frame, temporal_patch=temporal_patch)
    return ceil_div(seconds * fps, temporal_patch) * patches_per_frame


def to_layout(shape: Sequence[int], source: Layout, target: Layout, frames: int | None = None) -> tuple[int, ...]:
    """The `shape` of a tensor in layout `source`, as it reads in layout `target`.

    `BCHW` is the per-frame view, B*T rows of one frame each: (1, 16, 24, 90, 160) as BCTHW is (24, 16, 90, 160). It is
    for image layers only, which treat rows alike. Frames are not the batch: a layer that looks along time must not see
    it, and 24 such rows are one video of 24 frames, not 24 videos. The way back therefore needs `frames`, the T of each
    video.

    Raises UserError for an unknown layout, a shape of another rank, sizes that are not positive ints, and `frames` that
    is missing, does not divide the rows, or is given where `source` already says T or `target` has none.
    """
    sizes = _axes(shape, source, "source")
    _require_layout("target", target)
    unfolds = "T" not in sizes and "T" in target
    if frames is not None and not unfolds:
        raise UserError(f"frames: only for BCHW to a layout with T, not for {source} to {target}; leave it out")
    if unfolds:
        if frames is None:
            raise UserError(f"frames: {source} rows are batch x frames; say how many frames a video has")
        _require_positive(frames=frames)
        if sizes["B"] % frames:
            raise UserError(f"frames: {sizes['B']} rows are not a whole number of videos of {frames} frames")
        sizes |= {"B": sizes["B"] // frames, "T": frames}
    elif "T" not in target and "T" in sizes:
        sizes["B"] *= sizes["T"]
    return tuple(sizes[axis] for axis in target)


def count_positions(shape: Sequence[int], layout: Layout) -> int:
    """Positions of a latent, all axes but channels: B*T*H*W. (1, 16, 24, 90, 160) as BCTHW has 345,600.

    The same in every layout, the per-frame one too. Raises UserError as `to_layout` does.
    """
    return prod(size for axis, size in _axes(shape, layout, "layout").items() if axis != "C")


def compression_ratio(
    num_frames: int,
    height: int,
    width: int,
    latent_channels: int,
    spatial_compression: int,
    temporal_compression: int,
    pixel_channels: int = 3,
    pixel_dtype: LatentDtype = "fp32",
    latent_dtype: LatentDtype = "fp16",
) -> CompressionRatio:
    """Pixels over latent for one video, as it is padded: the sizes are those of `estimate_video_latent_memory`.

    Where every size divides this is pixel_channels * s^2 * r / latent_channels for compressions s and r; otherwise, and
    so for 4k+1 frames, it is less. The ratio in bytes depends on how pixels are held: "fp8" stands for any pixel
    of one byte, uint8 too. Raises UserError.
    """
    _require_positive(pixel_channels=pixel_channels)
    pixel_bytes, latent_bytes = _dtype_bytes("pixel_dtype", pixel_dtype), _dtype_bytes("latent_dtype", latent_dtype)
    latent = estimate_video_latent_memory(
        num_frames, height, width, latent_channels, spatial_compression, temporal_compression
    )
    elements, latent_elements = pixel_channels * num_frames * height * width, latent["num_elements"]
    return CompressionRatio(elements / latent_elements, elements * pixel_bytes / (latent_elements * latent_bytes))


def full_attention(
    grid: Triple, heads: int, head_dim: int, batch: int = 1, dtype: LatentDtype = "fp16"
) -> AttentionCost:
    """Every token of the `grid` (T, H, W) attends to every other: (T*H*W)^2 scores a head and video.

    A product of (m, k) by (k, n) takes 2*m*n*k FLOPs, so QK^T and the product with V take 2*S*S*head_dim each for S
    tokens: 4 * score_elements * head_dim. Projections and softmax are not counted. Raises UserError.
    """
    return _attention_cost(prod(_triple("grid", grid)) ** 2, heads, head_dim, batch, dtype)


def factorised_attention(
    grid: Triple, heads: int, head_dim: int, batch: int = 1, dtype: LatentDtype = "fp16"
) -> AttentionCost:
    """Space, then time: T*(H*W)^2 + H*W*T^2 scores a head and video (ViViT, Arnab et al. 2021, model 3).

    Both passes are summed; they run one after the other, so materialised scores need not be held together. Never more
    than `full_attention`, except along a grid of one frame or of one position, where the other pass is pure overhead.
    FLOPs as there: projections (this form has two sets) and softmax are not counted. Raises UserError.
    """
    frames, height, width = _triple("grid", grid)
    area = height * width
    return _attention_cost(frames * area**2 + area * frames**2, heads, head_dim, batch, dtype)


def windowed_attention(
    grid: Triple, window: Triple, heads: int, head_dim: int, batch: int = 1, dtype: LatentDtype = "fp16"
) -> AttentionCost:
    """Attention inside windows (t, h, w) that tile the `grid`: windows * (t*h*w)^2 scores a head and video.

    The 3D windows of Video Swin (Liu et al. 2022). The number of windows is rounded up along each axis and each window
    counts as full: the padding of edge windows is computed like any token, so a window larger than the grid costs more
    than `full_attention`. FLOPs as there: projections and softmax are not counted. Raises UserError.
    """
    windows = count_tokens(*_triple("grid", grid), patch=_triple("window", window))
    return _attention_cost(windows * prod(window) ** 2, heads, head_dim, batch, dtype)


def _attention_cost(pairs: int, heads: int, head_dim: int, batch: int, dtype: LatentDtype) -> AttentionCost:
    """The cost of `pairs` query-key pairs for each head of each video."""
    _require_positive(heads=heads, head_dim=head_dim, batch=batch)
    scores = pairs * heads * batch
    return AttentionCost(scores, scores * _dtype_bytes("dtype", dtype), 4 * scores * head_dim)


def _axes(shape: Sequence[int], layout: Layout, argument: str) -> dict[str, int]:
    """The sizes of `shape` by the letters of `layout`, which is the caller's argument `argument`."""
    _require_layout(argument, layout)
    if not isinstance(shape, (tuple, list)) or len(shape) != len(layout):
        raise UserError(f"shape: {layout} has {len(layout)} sizes, got {shape!r}")
    if any(not _is_size(size) for size in shape):
        raise UserError(f"shape: expected positive integers, got {shape!r}")
    return dict(zip(layout, shape, strict=True))


def _require_layout(name: str, layout: object) -> None:
    if layout not in LAYOUTS:
        raise UserError(f"{name}: no layout {layout!r}; one of {', '.join(LAYOUTS)}")


def _require_positive(**sizes: object) -> None:
    for name, size in sizes.items():
        if not _is_size(size):
            raise UserError(f"{name}: expected a positive integer, got {size!r}")


def _triple(name: str, sizes: Triple) -> Triple:
    if not isinstance(sizes, (tuple, list)) or len(sizes) != 3 or any(not _is_size(size) for size in sizes):
        raise UserError(f"{name}: expected three positive integers (time, height, width), got {sizes!r}")
    return sizes[0], sizes[1], sizes[2]


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0  # not isinstance: True is an int, and never a size


def _dtype_bytes(name: str, dtype: LatentDtype) -> int:
    if dtype not in LATENT_DTYPES:
        raise UserError(f"{name}: no dtype {dtype!r}; one of {', '.join(LATENT_DTYPES)}")
    return ELEMENT_BYTES[dtype]
