"""Rules of ops that read values: numbers, masks, positions."""

from typing import Any

import torch

from profiler.errors import ModelError
from profiler.kernels.cub import ONE_BLOCK, scan_bytes, select_bytes, sum_bytes
from profiler.trace.known_values import CPU, LIMIT, aten, is_real
from profiler.trace.tracing import Tracing


def read(trace: Tracing, func: Any, args: Any, kwargs: Any) -> Any:
    """An op whose answer is the data's own: a number, a shape, a copy on the host. Raises ModelError as `_content` does."""
    content = _content(trace, func, args, kwargs)
    return content if kwargs.get("device") == CPU else _placed(trace, content)


def _content(trace: Tracing, func: Any, args: Any, kwargs: Any) -> Any:
    """`func` on contents; unknown masks are valid throughout. Raises ModelError for a number that no input decides."""
    while unknown := trace.values.unknown(args):
        place = " ".join(trace.ops[-1]).strip()
        if unknown[0].dtype != torch.bool:
            raise ModelError(f"{place} reads a number that follows from weights: no estimate without data")
        trace.values.masks.append(place)
        trace.values.know(unknown[0], trace.values.compute(torch.ones, ((),), {"dtype": torch.bool}))
    return trace.values.decide(func, args, kwargs)


def _placed(trace: Tracing, content: Any) -> Any:
    """`content` as tensors without data that are known."""
    if isinstance(content, (tuple, list)):
        return type(content)(_placed(trace, item) for item in content)
    if not isinstance(content, torch.Tensor):
        return content
    result = torch.empty_strided(content.shape, content.stride(), dtype=content.dtype, device=trace.device_type)
    trace.values.know(result, content)
    return result


def choose(trace: Tracing, func: Any, args: Any, kwargs: Any) -> Any:
    """Top-k of scores, by which experts are chosen: the choices spread evenly, so that every expert has as much to do."""
    result = trace.infer(func, args, kwargs)
    scores, chosen = args[0], result[1]
    if trace.values.unknown([scores]) and chosen.numel() * 8 <= LIMIT:
        dim = kwargs.get("dim", args[2] if len(args) > 2 else -1)

        def even() -> torch.Tensor:
            numbers = torch.arange(chosen.numel(), device="cpu") % scores.shape[dim]
            return torch.transpose(numbers.view(chosen.transpose(dim, -1).shape), dim, -1)

        trace.values.know(chosen, trace.values.compute(even, (), {}))
        trace.values.choices.append(" ".join(trace.ops[-1]).strip())
    return result


def copy(trace: Tracing, func: Any, args: Any, kwargs: Any) -> Any:
    """`.to("cpu")` of a tensor without data gives its content, as `.tolist()` and `.cpu()` ask for it."""
    if kwargs.get("device") == CPU and args[0].device.type == "meta":
        return read(trace, func, args, kwargs)
    return trace.infer(func, args, kwargs)


def nonzero(trace: Tracing, func: Any, args: Any, kwargs: Any) -> Any:
    """CUDA counts, then writes: the count and cub's buffers are workspace (Nonzero.cu)."""
    taken = _count_buffers(trace, args[0].numel())
    positions = read(trace, func, args, kwargs)
    trace.track(positions)
    trace.give_back(taken + _select_buffers(trace, args[0].numel()))
    return positions


def index(trace: Tracing, func: Any, args: Any, kwargs: Any) -> Any:
    """Indexing by a mask is indexing by what `nonzero` gives for it, which lives inside the op (TensorAdvancedIndexing)."""
    x, indices, *rest = args
    masks = [i for i in indices if i is not None and i.dtype in (torch.bool, torch.uint8)]
    is_fill = bool(masks) and func is not aten.index.Tensor and rest[0].numel() == 1  # then ATen takes masked_fill
    if is_fill or (masks and all(map(is_real, (x, *masks)))):  # the last have data, which stays on the host
        return trace.infer(func, args, kwargs)
    if not masks:
        return _by_positions(trace, func, args, kwargs)
    columns: list[Any] = []
    taken = []
    for i in indices:
        if any(i is mask for mask in masks):
            count = len(_content(trace, aten.nonzero.default, (i,), {}))
            columns += [torch.empty(count, dtype=torch.int64, device=trace.device_type) for _ in range(i.dim())]
            if trace.stack.device == "cuda":
                counting = _count_buffers(trace, i.numel())
                taken += trace.borrow(count * i.dim() * 8)
                trace.give_back(counting + _select_buffers(trace, i.numel()))
        else:
            columns.append(i)
    result = trace.infer(func, (x, columns, *rest), kwargs)
    trace.track(result)
    trace.give_back(taken)
    return result


def _by_positions(trace: Tracing, func: Any, args: Any, kwargs: Any) -> Any:
    """Indexing by numbers, which the card reads of one shape, 64 bits wide and laid out alike (make_info, AdvancedIndex)."""
    taken = _made_alike(trace, [i for i in args[1] if i is not None]) if trace.stack.device == "cuda" else []
    result = trace.infer(func, args, kwargs)
    trace.track(result)
    trace.give_back(taken)
    return result


def _made_alike(trace: Tracing, given: list[torch.Tensor]) -> list[int]:
    """Take what is made of the positions `given`: what lies on the host comes to the card, and so on."""
    taken: list[int] = []
    found: list[torch.Tensor] = []
    for i, wide in zip(given, torch.broadcast_tensors(*given), strict=True):
        moved = trace.borrow(i.numel() * i.element_size()) if trace.is_on_host(i) else []
        if i.dtype == torch.int32:
            taken += trace.borrow(wide.numel() * 8)
            trace.give_back(moved)
            found.append(torch.empty_like(wide, device="meta"))
        else:
            taken += moved
            found.append(wide)
    if len({wide.stride() for wide in found}) > 1:
        taken += [number for wide in found if not wide.is_contiguous() for number in trace.borrow(wide.numel() * 8)]
    return taken


def _count_buffers(trace: Tracing, elements: int) -> list[int]:
    if trace.stack.device != "cuda":
        return []
    count = trace.borrow(4)
    trace.give_back(trace.borrow(1 if elements <= ONE_BLOCK else sum_bytes(trace.by_card())))
    return count


def _select_buffers(trace: Tracing, elements: int) -> list[int]:
    if trace.stack.device != "cuda":
        return []
    return trace.borrow(select_bytes(elements, trace.stack if elements <= ONE_BLOCK else trace.by_card()))


def masked_select(trace: Tracing, func: Any, args: Any, kwargs: Any) -> Any:
    """On CUDA it is indexing by the broadcast mask (masked_select_out_cuda_impl)."""
    x, mask = torch.broadcast_tensors(*args)
    return index(trace, aten.index.Tensor, (x, [mask]), {})


def masked_scatter(trace: Tracing, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Sums of the mask say which value of the source comes where (masked_scatter__cuda and IndexKernel.cu)."""
    x, mask, source = args
    if func is aten.masked_scatter.default:
        x, mask = torch.broadcast_tensors(x, mask)
        x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        trace.track(x)
    mask = mask.expand(x.shape)
    taken = trace.borrow(8 * x.numel())
    taken += trace.take_ordered(mask)
    summed = trace.borrow(scan_bytes(x.numel(), 8, trace.by_card()))
    trace.give_back(summed + trace.take_ordered(source))
    trace.give_back(taken)
    return x


RULES = {
    **dict.fromkeys([aten._local_scalar_dense.default, aten.equal.default, aten.bincount.default], read),
    **dict.fromkeys([aten._unique2.default, aten.unique_consecutive.default, aten.unique_dim.default], read),
    aten.repeat_interleave.Tensor: read,
    aten.nonzero.default: nonzero,
    aten.topk.default: choose,
    aten.index.Tensor: index,
    aten.index_put.default: index,
    aten.index_put_.default: index,
    aten._to_copy.default: copy,
    aten.masked_select.default: masked_select,
    **dict.fromkeys([aten.masked_scatter.default, aten.masked_scatter_.default], masked_scatter),
}
