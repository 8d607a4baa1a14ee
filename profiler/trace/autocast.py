"""What `torch.autocast("cuda")` casts, for tensors without data: no dispatch key does it for them.

The lists and policies are those of ATen/autocast_mode.h in torch 2.13. A weight that is cast down is kept until the
context ends, if it is an fp32 leaf that requires a gradient, as parameters do unless somebody switched it off.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from unittest.mock import patch

import torch

from profiler.data.stack import Stack
from profiler.errors import ModelError

LOWER = frozenset(
    """_convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution prelu addmm
    addmv addr matmul einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot lstm_cell gru_cell
    scaled_dot_product_attention _scaled_dot_product_flash_attention""".split()  # noqa: SIM905
)
FP32 = frozenset(
    """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus layer_norm
    native_layer_norm rms_norm group_norm cosine_similarity dist cdist renorm logsumexp upsample_nearest1d
    _upsample_nearest_exact1d upsample_nearest2d _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d
    upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d""".split()  # noqa: SIM905
)
FP32_OUTPUT = frozenset(("aten.softmax.int", "aten.log_softmax.int", "aten.cumprod.default", "aten.cumsum.default",
                         "aten.linalg_vector_norm.default", "aten.sum.default", "aten.sum.dim_IntList",
                         "aten.prod.default", "aten.prod.dim_int"))  # fmt: skip
PROMOTE = frozenset(
    "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add".split()  # noqa: SIM905
)


class Autocast:
    """The casts of one autocast context to `dtype` (16 bit).

    With `grads` a kept cast requires a gradient as its weight does, also under no_grad, and `at::linear` goes by that:
    seen in dry runs of torch 2.11.0 to 2.13.0, not of 2.9.1.
    """

    def __init__(self, dtype: torch.dtype, *, grads: bool = True) -> None:
        self.dtype, self.grads = dtype, grads
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def policy(self, func: Any) -> str | None:
        """`lower`, `fp32`, `fp32 output`, `promote`, or None for an op that runs as it is."""
        name = func.overloadpacket.__name__
        if name in LOWER:
            return "lower"
        if name in FP32:
            return "fp32"
        if str(func) in FP32_OUTPUT:
            return "fp32 output"
        return "promote" if name in PROMOTE else None

    def cast(self, policy: str, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Arguments as the op gets them."""
        if policy == "fp32 output":
            if _castable(args[0]) and not any(isinstance(a, torch.dtype) for a in (*args, *kwargs.values())):
                kwargs = kwargs | {"dtype": torch.float32}
            return args, kwargs
        target = {"lower": self.dtype, "fp32": torch.float32}.get(policy) or self._widest((args, kwargs))
        # Compiled as a call of casts, whose arguments GCC evaluates last to first.
        return tuple(self._cast(item, target) for item in reversed(args))[::-1], self._cast(kwargs, target)

    def clear(self) -> None:
        """The context ends: kept casts are given back."""
        self._kept.clear()

    def _cast(self, value: Any, target: torch.dtype) -> Any:
        if isinstance(value, torch.Tensor):
            return self._cast_tensor(value, target) if _castable(value) and value.dtype != target else value
        if isinstance(value, (tuple, list)):
            return type(value)(self._cast(item, target) for item in value)
        return {k: self._cast(v, target) for k, v in value.items()} if isinstance(value, dict) else value

    def _cast_tensor(self, value: torch.Tensor, target: torch.dtype) -> torch.Tensor:
        keeps = target == self.dtype and value.dtype == torch.float32 and value.requires_grad and value.is_leaf
        if not keeps:
            return value.to(target)
        if id(value) not in self._kept:
            self._kept[id(value)] = (value, value.to(target).requires_grad_(self.grads))
        return self._kept[id(value)][1]

    def _widest(self, value: Any) -> torch.dtype:
        if isinstance(value, torch.Tensor):
            return torch.float32 if value.dtype == torch.float32 else self.dtype
        items = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
        return torch.float32 if any(self._widest(item) == torch.float32 for item in items) else self.dtype


class Caster(Protocol):
    """Who casts: `casts` is what the innermost `torch.autocast` asks for, None outside of one and where it is off."""

    stack: Stack
    casts: Autocast | None


@contextmanager
def heard_by(trace: Caster) -> Iterator[None]:
    """Whatever enters `torch.autocast` meanwhile, for the card or for the device of its tensors, is what `trace` casts.

    Kept casts are given back as the outermost context ends. Raises ModelError for one on a CPU, whose lists are others.
    """
    context, kept = torch.amp.autocast_mode.autocast, dict[torch.dtype, Autocast]()
    make, enter, leave = context.__init__, context.__enter__, context.__exit__
    card = trace.stack.device == "cuda"

    def made(one: Any, device_type: str, *args: Any, **rest: Any) -> None:
        # torch without a card switches it off, and knows no autocast of `meta`.
        with patch.multiple(torch.cuda, is_available=lambda: card, is_bf16_supported=lambda *_, **__: True):
            make(one, trace.stack.device if device_type == "meta" else device_type, *args, **rest)

    def refuse(is_on: bool) -> None:
        if is_on and not card:
            raise ModelError("autocast: only CUDA's casts are modelled; the CPU casts other operations")

    def heed() -> None:
        dtype = torch.get_autocast_dtype("cuda")
        casts = kept.setdefault(dtype, Autocast(dtype, grads=trace.stack.torch_release >= (2, 11, 0)))
        trace.casts = casts if card and torch.is_autocast_enabled("cuda") else None

    def changes(usual: Any) -> Any:
        def change(one: Any, *why: Any) -> Any:
            if usual is enter:
                refuse(one._enabled)  # before torch counts it: what raises on the way in is never left
            result = usual(one, *why)
            heed()
            return result

        return change

    ways = {"__init__": made, "__enter__": changes(enter), "__exit__": changes(leave)}
    clear = patch.object(torch, "clear_autocast_cache", lambda: list(map(Autocast.clear, kept.values())))
    with patch.multiple(context, **ways), clear:
        refuse(torch.is_autocast_enabled("cpu"))  # one may have been entered before
        heed()
        yield


def _castable(value: Any) -> bool:
    """Whether autocast looks at this argument: floating point, but not fp64."""
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64
