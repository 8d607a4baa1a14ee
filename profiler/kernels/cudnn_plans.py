"""Asks cuDNN itself what a convolution borrows, without a GPU.

cuDNN 9.8 and later plan for a card's property record. ATen takes the first plan that builds, so that plan's workspace is
what a run borrows. Answers come from plans shipped for the catalog (`configs/plans`), or from the cuDNN that is installed:
in a process of its own, or from a cache on disk of what it was asked before. Where none comes the caller has the closed
form, and `Sources` says why.

One version's plans are not another's: 9.19 and 9.20 plan 4,022 convolutions alike, for an H200 and an RTX 4090; 9.26 and
9.28 give a third of them other bytes, and are no nearer to 9.20 than the closed form, which was read off it. So whoever is
nearer to the stack's version answers: what is installed, or the shipped plans and the closed form, which stand for 9.20.

Before them comes what cuDNN planned on a card itself (`configs/plans/on-card`). It lists the same engines without one, but
those of Hopper that divide a sum among the multiprocessors (its eng62 and eng67) know only there how many of their blocks
run at once: of 33,355 convolutions on an H200 6,289 borrow other bytes by more than 512, up to 17 MB more or 2 MB less. An
H100 plans 556 of them otherwise than the H200, so siblings' answers come next. A dry run has no card, and is estimated
without.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from profiler.data.stack import Stack, format_cudnn
from profiler.files.cache import digest, find, keep
from profiler.kernels.convolution import Convolution, is_beyond_32_bit
from profiler.kernels.cudnn_library import FIRST_WITHOUT_DEVICE, front_end_version, installed_cudnn
from profiler.kernels.cudnn_process import CudnnProcess, SilentError
from profiler.machine.cards import PLANS, Gpu, gpu_named, siblings

# cuDNN 9.20.0, as torch's integer: it planned what `configs/plans` has, and the closed form is read off it.
SHIPPED_BY = 92000
ON_CARD = PLANS / "on-card"  # what cuDNN planned on cards themselves
ALIKE = 1  # minor releases of cuDNN whose plans on a card stand for each other's
Plans = Mapping[str, int | None]  # workspace by question
CLOSED_FORM: ContextVar[bool] = ContextVar("CLOSED_FORM", default=False)  # set: nobody is asked, as for an unknown card


@dataclass
class Sources:
    """Who said what convolutions borrow: how many each cuDNN planned, by its version, how many of those by another card's
    plans, and why others are left to the closed form, a reason each."""

    planned_by: Counter[int] = field(default_factory=Counter)
    siblings: Counter[str] = field(default_factory=Counter)
    unplanned: dict[str, None] = field(default_factory=dict)


class Planner:
    """Workspace bytes for one stack's card. `answered` counts by source: `shipped`, `cached` or `asked`."""

    def __init__(self, stack: Stack) -> None:
        self.answered = {"shipped": 0, "cached": 0, "asked": 0}
        self.sources = Sources()
        self._stack = stack
        self._card = gpu_named(stack.gpu)
        self._process: CudnnProcess | None = None
        self._silent = ""  # why the process does not answer

    def workspace_bytes(self, conv: Convolution) -> int | None:
        """The workspace of cuDNN's first plan for `conv`; None where nothing here knows it."""
        if is_beyond_32_bit(conv):  # there it names engines that a card would try last
            return self._unplanned("beyond 2^31 elements cuDNN plans on the card alone")
        return self.answer(question_of(conv, tf32=self._stack.tf32))

    def answer(self, question: str) -> int | None:
        """The workspace for one `question_of` a convolution; None where nothing here knows it."""
        if CLOSED_FORM.get():
            return self._unplanned("cuDNN's plans are left out, as was asked")
        if self._record is None:
            return self._unplanned(f"cuDNN plans by a card's property record, and {self._stack.gpu}'s is not known")
        for source in (self._on_card, *self._nearest):
            if (found := source(question)) is not None:
                return found
        return self._unplanned(self._silent or "cuDNN builds no plan for them")

    @cached_property
    def _nearest(self) -> list[Callable[[str], int | None]]:
        """Whom to ask, in this order."""
        wanted = self._stack.cudnn or SHIPPED_BY
        ahead = installed_is_ahead_by(wanted)
        if ahead > 0:
            return [self._installed, self._shipped]
        if ahead == 0:
            return [self._shipped, self._installed]
        own = f"; with {format_cudnn(wanted)} in its place they would be" if wanted >= FIRST_WITHOUT_DEVICE else ""
        self._silent = f"cuDNN {format_cudnn(installed_cudnn())} is installed, and plans otherwise{own}"
        return [self._shipped]

    def _unplanned(self, reason: str) -> int | None:
        self.sources.unplanned[reason] = None
        return None

    def _on_card(self, question: str) -> int | None:
        return self._look_up(question, self._stack.cudnn or SHIPPED_BY, self._plans_on_cards)

    def _shipped(self, question: str) -> int | None:
        card = self._planned_card
        return self._look_up(question, SHIPPED_BY, [(card, shipped_plans(card))] if card else [])

    def _look_up(self, question: str, version: int, shipped: list[tuple[Gpu, Plans]]) -> int | None:
        for card, plans in shipped:
            if (found := plans.get(question)) is not None:
                self.answered["shipped"] += 1
                self._count(version, card)
                return found
        return None

    @cached_property
    def _plans_on_cards(self) -> list[tuple[Gpu, Plans]]:
        """What cuDNN planned on this card, then on its siblings."""
        if self._stack.dry:
            return []
        cards = {card.id: card for card in (self._card, *self._siblings(ON_CARD)) if card}.values()
        planned = [(card, *plans_on_card(card)) for card in cards]
        wanted = (self._stack.cudnn or SHIPPED_BY) // 100
        return [(card, plans) for card, version, plans in planned if abs(version // 100 - wanted) <= ALIKE]

    def _count(self, version: int, card: Gpu | None) -> None:
        self.sources.planned_by[version] += 1
        if card is not None and card.name != self._stack.gpu:
            self.sources.siblings[card.name] += 1

    def _installed(self, question: str) -> int | None:
        if (found := self.kept.get(question)) is not None:
            self.answered["cached"] += 1
        elif (found := self._ask(question)) is not None:
            self.answered["asked"] += 1
            self.kept[question] = found
        if found is not None:
            self._count(installed_cudnn() or 0, self._asked_card)
        return found

    def close(self) -> None:
        """Keep what was asked, and let the process go."""
        if self._process is not None:
            self._process.close()
            self._process = None
        if self.answered["asked"]:
            with suppress(OSError):  # a disk that takes nothing: the next process asks again
                others = find("plans", self._name) or {}  # another process may have kept some meanwhile
                keep("plans", self._name, others | self.kept)

    @cached_property
    def _planned_card(self) -> Gpu | None:
        """The card whose shipped plans answer: this one, else one that cuDNN takes for the same; None for neither."""
        card = self._card
        if card and shipped_plans(card):
            return card
        return next(self._siblings(PLANS), None)

    def _siblings(self, folder: Path) -> Iterator[Gpu]:
        own = (self._card and self._card.properties) or {}
        return siblings(self._stack.capability, self._stack.multiprocessors, own, folder)

    @property
    def _asked_card(self) -> Gpu | None:
        """The card by whose property record cuDNN is asked: this one, else one that cuDNN takes for the same."""
        return self._card if self._card and self._card.properties else self._planned_card

    @cached_property
    def _record(self) -> dict[str, Any] | None:
        return self._asked_card.properties if self._asked_card else None

    @cached_property
    def kept(self) -> dict[str, int]:
        """What was asked before on this machine, and is since."""
        return find("plans", self._name) or {}

    @property
    def _name(self) -> str:
        """Names what was asked of one front-end and library beside stand-ins, for one property record."""
        return f"{front_end_version()}-cublas-{digest(self._record)}"

    def _ask(self, question: str) -> int | None:
        """One question to the process with cuDNN; None where no plan builds, or, as `_silent` then says, it is no more."""
        if self._silent:
            return None
        try:
            if self._process is None:
                self._process = CudnnProcess(self._record)
            return self._process.ask(question)
        except SilentError as error:
            self._silent = str(error)
            return None


def installed_is_ahead_by(wanted: int) -> int:
    """By how many minor releases the installed cuDNN is nearer to `wanted` than the one that planned what is shipped.

    Below 0 it is farther, and not asked. Where none is installed, 0.
    """
    shipped, asked = (abs(version // 100 - wanted // 100) for version in (SHIPPED_BY, installed_cudnn() or SHIPPED_BY))
    return shipped - asked


def shipped_plans(card: Gpu) -> Plans:
    """Workspace by question for one card, from `configs/plans`; nothing where its property record is another."""
    return _read_plans(PLANS / f"{card.id}.json", digest(card.properties))[1]


def plans_on_card(card: Gpu) -> tuple[int, Plans]:
    """The cuDNN that planned on the card itself, as torch's integer, and what it planned; nothing where nobody ran it."""
    return _read_plans(ON_CARD / f"{card.id}.json", digest(card.properties))


@cache
def _read_plans(path: Path, record: str) -> tuple[int, Plans]:
    """The cuDNN that planned, and the answers of a file, in the order of `questions.txt`, which is only ever added to."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    answers = data["bytes"] if data.get("record") == record else []
    return data.get("cudnn", SHIPPED_BY), dict(zip(shipped_questions(), answers, strict=False))


@cache
def shipped_questions() -> list[str]:
    """What `configs/plans` has answers to. The file is read once for all cards."""
    return (PLANS / "questions.txt").read_text(encoding="utf-8").splitlines()


def question_of(conv: Convolution, *, tf32: bool) -> str:
    """A convolution as one line, which is also its key in tables and caches.

    Fields: dtype, x, weight, padding, stride, dilation, of a transposed one the sides of its output, groups, memory order,
    and for fp32 whether TF32 is allowed.
    """
    fields = [conv.x, conv.weight, conv.padding, conv.stride, conv.dilation, *([conv.y[2:]] if conv.transposed else [])]
    numbers = [",".join(map(str, each)) for each in fields]
    order = "channels_last" if conv.channels_last else "contiguous"
    mode = ("tf32" if tf32 else "ieee") if conv.dtype == "float32" else "half"
    return " ".join([conv.dtype, *numbers, str(conv.groups), order, mode])
