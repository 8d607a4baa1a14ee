"""Every change that may make a model fit, the cheapest first: what keeps the picture, what costs time, what costs quality.

A change says what it sets, what it costs and for what it is. Changes of one name exclude each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from profiler.data.workload import VAE_STAGES, Placement
from profiler.diagnosis.remedies import CAUTIONS, EXPANDABLE, NEWER_TORCH
from profiler.errors import UserError
from profiler.kernels.convolution import skips_cudnn_conv3d
from profiler.search.question import GenerationQuestion, Question, StageQuestion
from profiler.search.setting import Setting

Cost = Literal["nothing", "time", "quality", "another version"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One rung. `takes_away` is the memory that it is for: the allocator's cache, weights, the VAE's tensors, or any."""

    name: str
    costs: Cost
    price: str
    takes_away: Literal["cache", "weights", "vae", "attention", "any"]
    on: Callable[[Setting], Setting]
    applies: Callable[[Question], bool] = lambda _: True

    def to(self, setting: Setting) -> Setting:
        """`setting` with the change."""
        prices = (*setting.prices, *([self.price] if self.price != "nothing" else []))
        return replace(self.on(setting), changes=(*setting.changes, self.name), prices=prices)


def _vae(question: Question) -> bool:
    return question.whole or (isinstance(question, StageQuestion) and question.stage in VAE_STAGES)


def _movable(question: Question) -> bool:
    return question.whole and not question.unified and question.base.placement == Placement()


def _placed(**placement: object) -> Callable[[Setting], Setting]:
    return lambda setting: replace(setting, placement=Placement(**placement))  # type: ignore[arg-type]


def _in_chunks(frames: int) -> Callable[[Setting], Setting]:
    return lambda setting: replace(setting, decode_chunk=frames)


def _chunked(question: Question) -> bool:
    return (
        isinstance(question, GenerationQuestion)
        and question.spec.class_name == "StableVideoDiffusionPipeline"  # the one whose call takes decode_chunk_size
        and question.base.decode_chunk is None
    )


def _in_fp32(question: Question) -> bool:
    if isinstance(question, StageQuestion):
        dtype = question.base.dtype or question.spec.component(question.stage).dtype
        return dtype == "fp32" and question.base.options.autocast is None
    return isinstance(question, GenerationQuestion) and question.base.dtype == "fp32"


CHANGES: tuple[Change, ...] = (
    Change(
        name="expandable-segments", costs="nothing", price="nothing", takes_away="cache",
        on=lambda setting: replace(setting, expandable=True),
        applies=lambda question: EXPANDABLE not in question.base.alloc_conf(question.stack),
    ),
    Change(
        name="slicing", costs="nothing", price="batch items are coded one by one", takes_away="vae",
        on=lambda setting: setting.with_options(slicing=True),
        applies=lambda question: _vae(question) and question.batch > 1 and not question.base.options.slicing,
    ),
    Change(
        name="channels-last", costs="nothing", price="other kernels, which round otherwise", takes_away="vae",
        on=lambda setting: setting.with_options(channels_last=True),
        applies=lambda question: _vae(question) and not question.whole and not question.base.options.channels_last,
    ),
    Change(
        name="attention", costs="nothing", price="another kernel, which rounds otherwise", takes_away="attention",
        on=lambda setting: setting.with_options(attention="efficient"),
        applies=lambda question: question.base.options.attention is None
        and question.base.options.attention_backend is None,
    ),
    Change(
        name="offload", costs="time", price="slower: each component is moved to the card for its use", takes_away="weights",
        on=_placed(offload="model"), applies=_movable,
    ),
    Change(
        name="offload", costs="time", price="slower: weights are moved layer by layer, beside the computation",
        takes_away="weights", on=_placed(offload="group-leaf", stream=True), applies=_movable,
    ),
    Change(
        name="offload", costs="time", price="slower still: weights are pinned as they are moved", takes_away="weights",
        on=_placed(offload="group-leaf", stream=True, low_cpu_mem=True),
        applies=lambda question: _movable(question) and question.ram is not None,
    ),
    Change(
        name="offload", costs="time", price="slower: weights are moved block by block, beside the computation",
        takes_away="weights", on=_placed(offload="group-block", stream=True), applies=_movable,
    ),
    Change(
        name="offload", costs="time", price="very slow: weights are moved one by one", takes_away="weights",
        on=_placed(offload="sequential"), applies=_movable,
    ),
    Change(
        name="framewise", costs="quality", price=CAUTIONS["framewise"], takes_away="vae",
        on=lambda setting: setting.with_options(framewise=True),
        applies=lambda question: _vae(question) and question.size["frames"] > 1 and not question.base.options.framewise,
    ),
    *(
        Change(
            name="decode-chunk", costs="quality", price=CAUTIONS["framewise"], takes_away="vae",
            on=_in_chunks(frames), applies=_chunked,
        )
        for frames in (8, 2)
    ),
    Change(
        name="tiling", costs="quality", price=CAUTIONS["tiling"], takes_away="vae",
        on=lambda setting: setting.with_options(tiling=True),
        applies=lambda question: _vae(question) and question.base.options.tile is None,
    ),
    Change(
        name="dtype", costs="quality", price=CAUTIONS["bf16"], takes_away="any",
        on=lambda setting: replace(setting, dtype="bf16"), applies=_in_fp32,
    ),
    Change(
        name="torch", costs="another version", price=CAUTIONS["newer_torch"], takes_away="any",
        on=lambda setting: replace(setting, torch=NEWER_TORCH),
        applies=lambda question: skips_cudnn_conv3d(question.stack),
    ),
)  # fmt: skip
NAMES = tuple(dict.fromkeys(change.name for change in CHANGES))


def allowed(names: Sequence[str], question: Question) -> tuple[Change, ...]:
    """The changes of `names` that can be made, all where none is named, the cheapest first.

    Raises UserError for a name that there is not.
    """
    for name in names:
        if name not in NAMES:
            raise UserError(f"allow: no change '{name}'; there are {', '.join(NAMES)}")
    return tuple(change for change in CHANGES if (not names or change.name in names) and change.applies(question))


def combinations(changes: Sequence[Change]) -> list[tuple[Change, ...]]:
    """Every set of changes without two of one name, in order of what the dearest of them costs, then the next."""
    axes: dict[str, list[Change | None]] = {}
    for change in changes:
        axes.setdefault(change.name, [None]).append(change)
    dearest_first = [axes[name] for name in reversed(NAMES) if name in axes]
    return [tuple(c for c in reversed(one) if c is not None) for one in product(*dearest_first)]


def leanest(question: Question, changes: Sequence[Change]) -> tuple[Change, ...]:
    """What takes least: of each name the last one, as the ladder goes from what takes much to what takes little.

    Another memory format is as often more as less; other attention is less where attention runs unfused.
    """
    one = question.denoiser_alone if isinstance(question, GenerationQuestion) else question
    routes = found.routes if one and (found := one.ask(one.base).found) else ()
    unfused = any("attention math" in route for route in routes)
    taken = [c for c in changes if c.name != "channels-last" and (unfused or c.takes_away != "attention")]
    return tuple({change.name: change for change in taken}.values())
