"""The verb: what fits on a card, and the code for it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.data.stack import Stack
from profiler.data.units import GIB, format_bytes, parse_bytes
from profiler.data.workload import STAGES, History, MemoryOptions, Placement
from profiler.errors import LatentmeterError, UserError
from profiler.estimation.worst import which_cards
from profiler.machine.cards import Gpu, assumed_stack, cards_of, gpus
from profiler.machine.target import has_driver, target_stack
from profiler.models.catalog import model_ids
from profiler.models.find import HUB_ID, find_model
from profiler.models.pipeline_folder import find_pipeline
from profiler.models.pipeline_spec import catalog_pipeline, pipeline_ids
from profiler.search.alone import denoiser_alone
from profiler.search.ladder import allowed
from profiler.search.largest import FREE, largest, smaller
from profiler.search.plainest import Search, pareto, plainest
from profiler.search.question import GenerationQuestion, Question, StageQuestion
from profiler.search.result import Fit, way_of
from profiler.search.setting import Setting
from profiler.search.tiles import VAE_PHASES
from profiler.search.trial import Trial

Tell = Callable[[str], None]
MOST_SMALLER = 2  # sizes of a whole generation, each a trace
MOST_BOXES = 3  # of cards that are tried for what fits on none here
OTHER_CALL = ("steps", "guidance", "images_per_prompt", "text_length", "lora")


def fit(
    model: str,
    stage: str | None = None,
    *,
    gpu: str | None = None, vram: str | None = None, reserve: str | None = None, ram: str | None = None,
    torch: str | None = None, cudnn: int | None = None, alloc_conf: str | None = None, stack: Stack | None = None,
    allow: Sequence[str] = (),
    options: MemoryOptions | None = None,
    placement: Placement | None = None,
    cache: bool = True,
    tell: Tell = lambda _: None,
    **call: Any,
) -> Fit:  # fmt: skip
    """What has to be set so that `model` runs on a card, the plainest first, with the code; nothing is measured.

    `model` is a pipeline (a catalog id, a diffusers folder, a hub id): its whole generation is answered, or its `stage`
    alone. A model that is no pipeline is answered for its decode. `call` are `frames`, `height`, `width`, `batch`, of which
    one may be `"max"`, and `dtype`, `decode_chunk`, `steps`, `guidance`, `images_per_prompt`, `text_length`, `lora`. The
    card is named as for `estimate`; `ram` is what the host may give (`"32GiB"`), `allow` names the changes that may be
    made, all by default; what `options` and `placement` set stays as it is. `tell` hears what is done.

        found = profiler.fit("flux.1-dev", gpu="rtx-4090")
        print(found.line, found.code, sep="\\n")

    Raises UserError, ModelError.
    """
    from profiler.files.cache import left_alone

    if gpu is None and vram is None and stack is None and not has_driver():
        raise UserError("no card is here, so name one: --gpu rtx-4090, or --vram 12GiB; `latentmeter cards` lists them")
    free = [name for name in FREE if call.get(name) == "max"]
    if len(free) > 1:
        raise UserError(f"{' and '.join(free)}: one size at a time can be max")
    base = Setting(
        options=options or MemoryOptions(), placement=placement or Placement(), dtype=call.pop("dtype", None),
        decode_chunk=call.pop("decode_chunk", None),
    )  # fmt: skip
    limit = None if ram is None else parse_bytes(ram)

    def ask(card: str | None) -> "Answer":
        target, context = target_stack(card, torch, cudnn, stack, alloc_conf, vram, reserve)
        if target.device != "cuda":
            raise UserError("a search is for a card: --gpu names one")
        named = {
            "gpu": card,
            "vram": vram,
            "reserve": reserve,
            "torch": torch,
            "cudnn": cudnn,
            "alloc-conf": alloc_conf,
        }
        words = [str(word) for name, value in named.items() if value is not None for word in (f"--{name}", value)]
        how: dict[str, Any] = {"stack": target, "context_bytes": context, "base": base, "ram": limit, "tell": tell}
        how["card"] = tuple(words)
        return Answer(question_of(model, stage, call, how), allow, *free)

    with left_alone(not cache):
        if vram is None or gpu is not None or stack is not None:
            return ask(gpu).fit()
        return _worst(vram, ask)


def question_of(model: str, stage: str | None, call: Mapping[str, Any], how: Mapping[str, Any]) -> Question:
    """What `model` and `stage` mean: a whole generation of a pipeline, or one stage. Raises UserError."""
    sizes = {name: value for name in FREE[:3] if (value := call.get(name)) not in (None, "max")}
    batch = call.get("batch")
    how = {**how, "sizes": sizes, "batch": 1 if batch in (None, "max") else batch}
    rest = {name: value for name, value in call.items() if name not in FREE and value is not None}
    for name in rest:
        if name not in (*OTHER_CALL, "history"):
            raise UserError(f"{name}: a search has nothing of this name; it has {', '.join((*FREE, *OTHER_CALL))}")
    history = rest.pop("history", History())
    asked: Question
    if stage == "generate" or (stage is None and _is_pipeline(model)):
        if history != History():
            raise UserError("after, empty_cache and device_map: go with a single stage; a generation has two calls")
        asked = GenerationQuestion(spec=find_pipeline(model), call=rest, **how)
    else:
        name = stage or "decode"
        if name not in STAGES:
            raise UserError(f"stage: no stage {name!r} to search for; one of generate, {', '.join(STAGES)}")
        text_length = rest.pop("text_length", None)
        for other in rest:
            raise UserError(f"{other}: goes with a whole generation, --stage generate")
        if model in pipeline_ids() and model not in model_ids():  # a pipeline beside another one of the same model
            model = catalog_pipeline(model).model or model
        if stage is None:
            how["notes"] = {"model.stage": f"{model} is no pipeline, so this is its decode alone"}
        asked = StageQuestion(spec=find_model(model), stage=name, text_length=text_length, history=history, **how)
    asked.check()
    return asked


class Answer:
    """One question answered: the search, or the largest size and then the search at that size."""

    def __init__(self, question: Question, allow: Sequence[str], free: str | None = None) -> None:
        self.question, self.allow, self.free = question, allow, free
        self.changes = allowed(allow, question)
        self.best: Trial
        if allow and not self.changes:
            raise UserError(f"allow: nothing to search: none of {', '.join(allow)} applies here, or it is set already")

    def fit(self) -> Fit:
        """The whole answer."""
        found, question = None, self.question
        if self.free:
            found, question = self._largest(self.free)
            self.question = question
        search = Search(question, self.changes)
        trials = [trial for trial in search.run(1 if self.free and question.whole else None) if trial.found]
        if not trials:
            raise UserError(next(iter(search.made.values())).refused)
        ways = pareto(trials)
        best = plainest(ways) if ways else min(trials, key=lambda one: (one.lacks_ram, one.reserved))
        self.best = best
        return Fit(
            model=question.name,
            stage=question.stage,
            size=question.size | ({"batch": question.batch} if question.batch > 1 else {}),
            gpu=question.stack.gpu,
            way=way_of(question, best),
            alternatives=tuple(way_of(question, trial) for trial in ways if trial is not best),
            in_the_way=tuple(best.in_the_way),
            why_not=best.why_not,
            would_fit=() if ways else tuple(self._would_fit(question, best)),
            largest=found,
            left_out=search.left_out,
            notes=self._notes(question, best),
        )

    def _largest(self, free: str) -> tuple[dict[str, Any], Question]:
        found = largest(self.question, free, self._floor, self._denoiser)
        above = found.above
        missing = None if above is None or above.found is None else max(0, -above.headroom)
        told = {"free": free, "value": found.value, "next": found.following, "missing_bytes": missing}
        told |= {"why_not": above.why_not if above else "", "untried": found.untried if above else None}
        return told, found.question

    def _floor(self, question: Question) -> Trial:
        """The trial of what takes least: what fits at all fits so."""
        return Search(question, self.changes).floor[1]

    def _denoiser(self, question: Question) -> int | None:
        """Bytes that the denoiser alone takes with the leanest placement allowed."""
        placement = next((c for c in reversed(self.changes) if c.name == "offload"), None)
        return denoiser_alone(question, placement.on(question.base) if placement else question.base)

    def _would_fit(self, question: Question, best: Trial) -> list[str]:
        """The smallest card on which the leanest way runs, and the nearest smaller size that runs here."""
        if best.lacks_ram:
            return [f"a host that gives {format_bytes(best.host)}"]
        return [*filter(None, [_card_for(question, best), self._smaller(question, best)])]

    def _smaller(self, question: Question, best: Trial) -> str:
        """The nearest smaller size that runs here. Where the denoiser alone says that one is too large, it is not traced."""
        here, tried = self._denoiser(question), 0
        loop = [phase.peak.allocated_bytes or 0 for phase in best.estimate.phases if phase.name not in VAE_PHASES]
        beside = max(loop, default=0) - (here or 0)
        for one in smaller(question):
            if here is not None and (self._denoiser(one) or 0) + beside > best.capacity:
                continue
            if (trial := self._floor(one)).fits:
                title = trial.setting.title
                return f"{one.title} on this card, with {title}: {format_bytes(trial.reserved)} reserved"
            tried += 1
            if question.whole and tried == MOST_SMALLER:
                break
        return ""

    def _notes(self, question: Question, best: Trial) -> dict[str, str]:
        kept = ("stack.", "model.", "capacity", "steps", "lora", "safety_checker")
        own = ("stack.settings", "stack.alloc_conf") if best.setting.expandable else ()
        notes = {name: text for name, text in best.estimate.notes.items() if name.startswith(kept) and name not in own}
        notes |= question.notes
        if question.unified:
            notes["unified"] = (
                "this card's memory is the host's: what waits there takes it too, so offload is not tried"
            )
        return notes


def _card_for(question: Question, best: Trial) -> str:
    """The smallest memory that cards are sold with on which the way fits, as estimated for the one with least of it."""
    tried = 0
    for box in sorted({card.box_gib for card in gpus().values() if card.box_gib}):
        card = min(cards_of(box * GIB), key=lambda one: (_unlike(one, question.stack), one.total_bytes))
        stack = assumed_stack(card, question.stack.torch, question.stack.cudnn)
        stack = replace(stack, settings=dict(question.stack.settings))
        other = replace(question, stack=stack, context_bytes=card.context_bytes, trials={})
        if other.capacity < best.allocated:
            continue
        if (trial := other.ask(best.setting)).fits:
            how = trial.setting.title
            return f"a card with {box} GiB, such as {card.id}: {format_bytes(trial.reserved)} reserved, {how}"
        if (tried := tried + 1) == MOST_BOXES:
            break
    return ""


def _unlike(card: Gpu, stack: Stack) -> int:
    """How far a card's architecture is from that of `stack`: kernels of neighbours are alike, a T4's attention is not."""
    (major, minor), (own, small) = card.capability, stack.capability or card.capability
    return abs(10 * (major - own) + minor - small)


def _worst(vram: str, ask: Callable[[str | None], Answer]) -> Fit:
    """The answer for the worst card sold with a memory: searched for the one with the least, then asked of the others."""
    cards = sorted(cards_of(parse_bytes(vram)), key=lambda card: card.total_bytes)
    refused: dict[str, LatentmeterError] = {}
    checked: list[str] = []
    settled: tuple[str, Fit, Trial] | None = None
    for card in cards:
        try:
            answer = ask(card.id)
            if settled is None or answer.free or not answer.question.ask(settled[2].setting).fits:
                settled = card.id, answer.fit(), answer.best
        except LatentmeterError as error:
            refused[card.id] = error
            continue
        checked.append(card.id)
        if not settled[1].fits:
            break
    if settled is None:
        raise next(iter(refused.values()))
    worst, found, _ = settled
    return replace(found, notes={"stack.card": which_cards(vram, checked, worst, refused)} | found.notes)


def _is_pipeline(name: str) -> bool:
    if name in pipeline_ids():
        return True
    if Path(name).is_dir():
        return (Path(name) / "model_index.json").exists()
    return bool(HUB_ID.fullmatch(name)) and not os.path.exists(name)  # noqa: PTH110
