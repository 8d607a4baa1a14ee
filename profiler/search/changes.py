"""Every change that may make a model fit: first what keeps the picture, then what costs time, then what costs quality."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from profiler.data.workload import VAE_STAGES, OffloadName, Placement
from profiler.diagnosis.remedies import CAUTIONS, NEWER_TORCH, with_expandable
from profiler.errors import UserError
from profiler.kernels.convolution import skips_cudnn_conv3d
from profiler.search.question import GenerationQuestion, Question, StageQuestion
from profiler.search.setting import ON_CARD, Change


def _has_vae(question: Question) -> bool:
    return question.whole or question.stage in VAE_STAGES


def _is_chunked(question: Question) -> bool:
    return (
        isinstance(question, GenerationQuestion)
        and question.spec.class_name == "StableVideoDiffusionPipeline"  # the one whose call takes decode_chunk_size
        and question.base.decode_chunk is None
    )


def _is_unfused(question: Question) -> bool:
    """Whether the stage, or the denoiser of a whole generation, runs attention unfused; one that is not known may."""
    one = question.denoiser_alone if isinstance(question, GenerationQuestion) else question
    found = one.ask(one.base).found if one else None
    return found is None or any("attention math" in route for route in found.routes)


def _is_fp32(question: Question) -> bool:
    dtype = question.base.dtype
    if isinstance(question, StageQuestion):
        dtype = dtype or question.spec.component(question.stage).dtype
    return dtype == "fp32" and (question.whole or question.base.options.autocast is None)


def _offload(price: str, offload: OffloadName, **rest: bool) -> Change:
    placement = Placement(offload=offload, **rest)

    def applies(question: Question) -> bool:
        movable = question.whole and not question.stack.unified and question.base.placement == ON_CARD
        return movable and (question.ram is not None or not placement.low_cpu_mem)

    return Change(
        name="offload", costs="time", price=price, saves="weights",
        on=lambda setting: replace(setting, placement=placement), applies=applies,
    )  # fmt: skip


CHANGES: tuple[Change, ...] = (
    Change(name="expandable-segments", costs="nothing", price="", saves="cache",
        on=lambda setting: replace(setting, expandable=True),
        applies=lambda question: with_expandable(question.stack) is not None),
    Change(name="slicing", costs="nothing", price="batch items are coded one by one", saves="vae",
        on=lambda setting: setting.with_options(slicing=True),
        applies=lambda question: _has_vae(question)
        and (question.batch > 1 or question.takes_frames_as_batch)
        and not question.base.options.slicing),
    Change(name="channels-last", costs="nothing", price="other kernels, which round otherwise", saves="vae",
        on=lambda setting: setting.with_options(channels_last=True),
        applies=lambda question: question.stage in VAE_STAGES and not question.base.options.channels_last),
    Change(name="attention", costs="nothing", price="another kernel, which rounds otherwise", saves="attention",
        on=lambda setting: setting.with_options(attention="efficient"),
        applies=lambda question: question.base.options.attention is None
        and question.base.options.attention_backend is None
        and _is_unfused(question)),
    _offload("slower: each component is moved to the card for its use", "model"),
    _offload("slower: weights are moved layer by layer, beside the computation", "group-leaf", stream=True),
    _offload("slower still: weights are pinned as they are moved", "group-leaf", stream=True, low_cpu_mem=True),
    _offload("slower: weights are moved block by block, beside the computation", "group-block", stream=True),
    _offload("very slow: weights are moved one by one", "sequential"),
    Change(name="framewise", costs="quality", price=CAUTIONS["framewise"], saves="vae",
        on=lambda setting: setting.with_options(framewise=True),
        applies=lambda question: _has_vae(question)
        and question.size["frames"] > 1
        and not question.base.options.framewise),
    Change(name="decode-chunk", costs="quality", price=CAUTIONS["framewise"], saves="vae",
        on=lambda setting: replace(setting, decode_chunk=1),  # pieces.py chooses how many frames, and the size of tiles
        applies=_is_chunked),
    Change(name="tiling", costs="quality", price=CAUTIONS["tiling"], saves="vae",
        on=lambda setting: setting.with_options(tiling=True),
        applies=lambda question: _has_vae(question) and question.base.options.tile is None),
    Change(name="dtype", costs="quality", price=CAUTIONS["bf16"], saves="any",
        on=lambda setting: replace(setting, dtype="bf16"), applies=_is_fp32),
    Change(name="torch", costs="another version", price=CAUTIONS["newer_torch"], saves="any",
        on=lambda setting: replace(setting, torch=NEWER_TORCH),
        applies=lambda question: skips_cudnn_conv3d(question.stack)),
)  # fmt: skip
NAMES = tuple(dict.fromkeys(change.name for change in CHANGES))
Combination = tuple[Change, ...]


def allowed(names: Sequence[str], question: Question) -> list[Change]:
    """The changes of `names` that can be made, all where none is named, the cheapest first.

    Raises UserError for a name that there is not.
    """
    for name in names:
        if name not in NAMES:
            raise UserError(f"allow: no change '{name}'; there are {', '.join(NAMES)}")
    return [change for change in CHANGES if (not names or change.name in names) and change.applies(question)]


def combinations(changes: Sequence[Change]) -> list[Combination]:
    """Every set of changes without two of one name, in order of what the dearest of them costs, then the next."""
    by_name: dict[str, list[Change | None]] = {}
    for change in changes:
        by_name.setdefault(change.name, [None]).append(change)
    dearest_first = product(*reversed(by_name.values()))
    return [tuple(change for change in reversed(one) if change is not None) for one in dearest_first]


def leanest(changes: Sequence[Change]) -> Combination:
    """What takes least: of each name the last one, as the changes go from what takes much to what takes little.

    But for another memory format, which takes as often more as less.
    """
    return tuple({change.name: change for change in changes if change.name != "channels-last"}.values())


def without(combination: Combination, name: str) -> Combination:
    """The same without the change of a name."""
    return tuple(change for change in combination if change.name != name)
