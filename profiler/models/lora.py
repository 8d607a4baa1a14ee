"""LoRAs, loaded into a pipeline by diffusers' and peft's own code: each of a file, or of a rank that is made up.

Of an adapter only shapes are needed: it is laid on `meta`, as the weights that it stands beside, and in their dtype,
whatever the file has. So peft does with real weights (`_move_adapter_to_device_of_base_layer`, peft 0.21).
"""

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from profiler.data.units import format_bytes
from profiler.errors import MODEL_FAILURES, UserError

Lora = int | str | Path
DENOISERS = ("unet", "transformer", "transformer_2")
WORDS = 200  # characters of an error that names each key which does not fit
USUAL = "pytorch_lora_weights.safetensors"  # as `save_lora_weights` calls it
# What diffusers' training scripts adapt by default (examples/dreambooth/train_dreambooth_lora_*.py and, for CogVideoX,
# examples/cogvideo; as of 2026-08-23), by the end of a layer's name. Where a denoiser has no script, it is ATTENTION too.
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
BOTH_STREAMS = tuple(f"attn.{name}" for name in (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"))
TARGETS = {
    "FluxTransformer2DModel": (
        *BOTH_STREAMS, "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
    ),
    "Flux2Transformer2DModel": (*ATTENTION, "to_qkv_mlp_proj", "attn.to_out"),  # the last two: of single blocks
    "SD3Transformer2DModel": BOTH_STREAMS,
    "SanaTransformer2DModel": ATTENTION[:3],
}  # fmt: skip


def find_lora(asked: int | str | Path) -> int | Path:
    """What `asked` means: a rank, or the safetensors file that it is or that a folder has. Raises UserError for neither."""
    text = str(asked)
    if text.removeprefix("-").isdecimal():
        if int(text) < 1:
            raise UserError(f"lora: a rank is 1 or more, got {text}")
        return int(text)
    if os.path.isfile(text):  # noqa: PTH113 - of a name too long to be a file's, it says that there is none
        return Path(text)
    if not os.path.isdir(text):  # noqa: PTH112
        raise UserError(
            f"lora: no file or folder '{text}': give a safetensors file, a folder with one, or a rank, as 16; "
            "`hf download OWNER/NAME` fetches a LoRA of the hub"
        )
    files = sorted(Path(text).glob("*.safetensors"))
    usual = [file for file in files if file.name == USUAL] or files
    if len(usual) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise UserError(f"lora: '{text}' must have one safetensors file, or {USUAL}; it has {names}: name the file")
    return usual[0]


def each_lora(asked: Lora | Sequence[Lora]) -> list[Lora]:
    """One LoRA or several, as a list."""
    return [asked] if isinstance(asked, (int, str, Path)) else [*asked]


def identity_of(asked: Lora | Sequence[Lora]) -> list[int | list[str | int]]:
    """What an answer with these LoRAs depends on: each one's rank, or its file as it is now. Raises as `find_lora`."""
    return [_identity(find_lora(one)) for one in each_lora(asked)]


def _identity(found: int | Path) -> int | list[str | int]:
    if isinstance(found, int):
        return found
    status = found.stat()
    return [str(found.resolve()), status.st_size, status.st_mtime_ns]


def load_lora(pipe: Any, asked: Lora | Sequence[Lora]) -> str:
    """Load it, or all of them, into `pipe`, whose weights are on `meta`; returns what was loaded, in words.

    Several are active at once. Raises UserError without peft, and where the pipeline takes no LoRA, or not this one.
    """
    told = {f"lora_{n}": one for n, one in enumerate(each_lora(asked))}
    said = [_load(pipe, one, name) for name, one in told.items()]
    if len(told) > 1:
        pipe.set_adapters([*told])
    return "; ".join(said)


def _load(pipe: Any, asked: Lora, adapter: str) -> str:
    found, name = find_lora(asked), type(pipe).__name__
    if find_spec("peft") is None:
        raise UserError('lora: needs peft, which is not installed: pip install "latentmeter[lora]"')
    if not hasattr(pipe, "load_lora_weights"):
        raise UserError(f"lora: {name} has no load_lora_weights; leave it out")
    from safetensors import SafetensorError

    before = {id(weight): weight for _, weight in _weights(pipe)}  # alive, so that no new one has an old one's number
    try:
        told = _of_rank(pipe, found, adapter) if isinstance(found, int) else _of_file(pipe, found, adapter)
    except UserError:
        raise
    except (OSError, SafetensorError, *MODEL_FAILURES) as error:
        why = " ".join(str(error).split())[:WORDS] or type(error).__name__
        raise UserError(f"lora: {asked} cannot be loaded; was it made for {name}? {why}") from error
    _lay_beside(pipe)
    added = [(component, weight) for component, weight in _weights(pipe) if id(weight) not in before]
    if not added:
        raise UserError(f"lora: {asked} has nothing for {name}: none of its keys names a layer of its components")
    size = format_bytes(sum(weight.nbytes for _, weight in added))
    parameters = sum(weight.numel() for _, weight in added)
    where = " and ".join(dict.fromkeys(component for component, _ in added))
    return f"{told}: {parameters:,} parameters, {size}, among the weights of {where}; not fused"


def _lay_beside(pipe: Any) -> None:
    """Lay each adapter where its layer is, in its dtype: peft leaves one where it was read if another is on `meta`."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = (m for c in pipe.components.values() if hasattr(c, "modules") for m in c.modules())
    for layer in layers:
        if isinstance(layer, BaseTunerLayer):
            dtype = layer.get_base_layer().weight.dtype
            for kind in layer.adapter_layer_names:
                held = getattr(layer, kind)
                for name, part in held.items():
                    held[name] = part.to("meta", dtype=dtype)


def _weights(pipe: Any) -> Iterator[tuple[str, Any]]:
    for name, component in pipe.components.items():
        for weight in component.parameters() if hasattr(component, "parameters") else ():
            yield name, weight


def _of_file(pipe: Any, file: Path, adapter: str) -> str:
    """As a user loads it. Conversions of other tools' files read values, so the file is read into memory meanwhile."""
    pipe.load_lora_weights(str(file), adapter_name=adapter, use_safetensors=True, local_files_only=True)
    return f"{file.name}, {format_bytes(file.stat().st_size)} read from the disk"


def _of_rank(pipe: Any, rank: int, adapter: str) -> str:
    """One of `rank` in fp32, as the scripts save it, on each denoiser. Nobody writes to it, so it takes no memory here."""
    import torch

    denoisers = {name: module for name in DENOISERS if (module := pipe.components.get(name)) is not None}
    for module in denoisers.values():
        targets = TARGETS.get(type(module).__name__, ATTENTION)
        linear = {
            name.removesuffix(".base_layer"): layer  # beside which there is an adapter already
            for name, layer in module.named_modules()
            if isinstance(layer, torch.nn.Linear)
        }
        ends = tuple(f".{target}" for target in targets)
        layers = {name: layer for name, layer in linear.items() if name.endswith(ends)}
        if not layers:
            raise UserError(
                f"lora: {type(module).__name__} has no layer {' or '.join(targets)}; a LoRA's file says which it adapts"
            )
        weights = {}
        for name, layer in layers.items():
            weights[f"{name}.lora_A.weight"] = torch.empty(rank, layer.in_features)
            weights[f"{name}.lora_B.weight"] = torch.empty(layer.out_features, rank)
        module.load_lora_adapter(weights, prefix=None, adapter_name=adapter, low_cpu_mem_usage=True)
    return f"rank {rank} on {', '.join(targets)}"
