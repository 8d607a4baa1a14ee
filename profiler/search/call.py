"""The verb `fit`: from what is asked, in words, to questions, and to the answer for a card or for the worst of several."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.data.asked import gathered
from profiler.data.stack import Stack
from profiler.data.units import parse_bytes
from profiler.data.workload import STAGES, VAE_STAGES, History, MemoryOptions, Placement
from profiler.errors import LatentmeterError, UserError
from profiler.estimation.calls import check_call
from profiler.estimation.worst import which_cards
from profiler.machine.cards import cards_of
from profiler.machine.target import has_driver, target_stack
from profiler.models.catalog import model_ids
from profiler.models.find import HUB_ID, find_model, name_of
from profiler.models.pipeline_folder import find_pipeline
from profiler.models.pipeline_spec import catalog_pipeline, pipeline_ids
from profiler.search.answer import Answer
from profiler.search.largest import FREE
from profiler.search.question import SIZES, GenerationQuestion, Question, StageQuestion
from profiler.search.result import Fit
from profiler.search.setting import NO_OPTIONS, ON_CARD, Setting

CARD = ("gpu", "vram", "reserve", "torch", "cudnn", "alloc-conf")
OTHER_CALL = ("steps", "guidance", "images_per_prompt", "text_length", "lora")


def fit(
    model: str,
    stage: str | None = None,
    *,
    gpu: str | Path | None = None, vram: str | None = None, reserve: str | None = None, ram: str | None = None,
    torch: str | None = None, cudnn: int | None = None, alloc_conf: str | None = None, stack: Stack | None = None,
    allow: str | Sequence[str] = (),
    options: MemoryOptions | None = None,
    placement: Placement | None = None,
    cache: bool = True,
    tell: Callable[[str], None] = lambda _: None,
    **call: Any,
) -> Fit:  # fmt: skip
    """What has to be set so that `model` runs on a card, the plainest first, with the code; nothing is measured.

    `model` is a pipeline (a catalog id, a diffusers folder, a hub id): its whole generation is answered, or its `stage`
    alone. A model that is no pipeline is answered for its decode. `call` are `frames`, `height`, `width`, `batch`, of which
    one may be `"max"`, and `dtype`, `decode_chunk`, `steps`, `guidance`, `images_per_prompt`, `text_length`, `lora`. The
    card is named as for `estimate`; `ram` is what the host may give (`"32GiB"`), `allow` the changes that may be made, as
    `"tiling,offload"` or a list, all by default; what `options` and `placement` set stays as it is, and may stand alone
    (`tiling=True`). `tell` hears what is done.

        found = profiler.fit("flux.1-dev", gpu="rtx-4090")
        print(found.line, found.code, sep="\\n")

    Raises UserError, ModelError.
    """
    from profiler.files.cache import left_alone

    call = gathered(call | {"placement": placement, "options": options})
    placement, options = call.pop("placement"), call.pop("options")
    model, allow = name_of(model), [name.strip() for name in (allow.split(",") if isinstance(allow, str) else allow)]
    if gpu is None and vram is None and stack is None and not has_driver():
        raise UserError("no card is here, so name one: --gpu rtx-4090, or --vram 12GiB; `latentmeter cards` lists them")
    free = [name for name in FREE if call.get(name) == "max"]
    if len(free) > 1:
        raise UserError(f"{' and '.join(free)}: one size at a time can be max")
    own = {name: call.pop(name, None) for name in ("dtype", "decode_chunk")}
    how = {"base": Setting(options=options or NO_OPTIONS, placement=placement or ON_CARD, **own), "tell": tell}
    how |= {"traced": {}, "ram": None if ram is None else parse_bytes(ram)}

    def ask(card: str | Path | None) -> Answer:
        target, context = target_stack(card, torch, cudnn, stack, alloc_conf, vram, reserve)
        if target.device != "cuda":
            raise UserError("a search is for a card: --gpu names one")
        words = dict(zip(CARD, (card, vram, reserve, torch, cudnn, alloc_conf), strict=True))
        named = {"stack": target, "context_bytes": context, "card": words}
        return Answer(question_of(model, stage, call, how | named), allow, *free)

    with left_alone(not cache):
        if vram is None or gpu is not None or stack is not None:
            return ask(gpu).fit()
        return _worst(vram, ask)


def question_of(model: str, stage: str | None, call: Mapping[str, Any], how: Mapping[str, Any]) -> Question:
    """What `model` and `stage` mean: a whole generation of a pipeline, or one stage. Raises UserError."""
    given = {name: value for name, value in call.items() if value not in (None, "max")}
    how = {**how, "batch": given.pop("batch", 1)}
    how["sizes"] = {name: given.pop(name) for name in SIZES if name in given}
    history, base = given.pop("history", History()), how["base"]
    for name in given:
        if name not in OTHER_CALL:
            raise UserError(f"{name}: a search has nothing of this name; it has {', '.join((*FREE, *OTHER_CALL))}")
    asked: GenerationQuestion | StageQuestion
    if stage == "generate" or (stage is None and _is_pipeline(model)):
        if history != History():
            raise UserError("after, empty_cache and device_map: go with a single stage; a generation has two calls")
        own = {"prompts": how["batch"], "decode_chunk": base.decode_chunk, "dtype": base.dtype}
        check_call(how["sizes"] | given | own, base.placement, base.options)
        asked = GenerationQuestion(spec=find_pipeline(model), call=given, **how)
    else:
        if stage not in (None, *STAGES):
            raise UserError(f"stage: no stage {stage!r} to search for; one of generate, {', '.join(STAGES)}")
        text_length = given.pop("text_length", None)
        given |= {"offload": base.placement if base.placement != ON_CARD else None}
        given |= {"decode_chunk": base.decode_chunk, "ram": how.get("ram")}
        for other in (name for name, value in given.items() if value is not None):
            within = "`latentmeter estimate` with a stage and --offload answers for a stage within one"
            raise UserError(f"{other}: goes with a whole generation, --stage generate; {within}")
        if stage is None:
            how["notes"] = {"model.stage": f"{model} is no pipeline, so this is its decode alone"}
        if model in pipeline_ids():
            pipeline, dtype = catalog_pipeline(model), base.dtype
            kept = pipeline.dtypes.get("vae") if stage in VAE_STAGES else None
            if kept and dtype not in (None, kept):
                said = f"a whole generation loads this VAE in {kept}, not in {dtype} as asked here"
                how["notes"] = {"model.dtype": said}
            if model not in model_ids():  # beside another pipeline of the same model
                model = pipeline.model or model
        how |= {"stage": stage or "decode", "text_length": text_length, "history": history}
        asked = StageQuestion(spec=find_model(model), **how)
    asked.check()
    return asked


def _worst(vram: str, ask: Callable[[str], Answer]) -> Fit:
    """The answer for the worst card sold with a memory: searched for the one with the least, then asked of the others."""
    refused: dict[str, LatentmeterError] = {}
    checked: list[str] = []
    settled: tuple[str, Answer, Fit] | None = None
    for card in sorted(cards_of(parse_bytes(vram)), key=lambda card: card.total_bytes):
        try:
            answer = ask(card.id)
            if settled is None or answer.free or not answer.question.ask(settled[1].best.setting).fits:
                settled = card.id, answer, answer.fit()
        except LatentmeterError as error:
            refused[card.id] = error
            continue
        checked.append(card.id)
        if not settled[2].fits:
            break
    if settled is None:
        raise next(iter(refused.values()))
    worst, _, found = settled
    return replace(found, notes={"stack.card": which_cards(vram, checked, worst, refused)} | found.notes)


def _is_pipeline(name: str) -> bool:
    if name in pipeline_ids():
        return True
    if Path(name).is_dir():
        return (Path(name) / "model_index.json").exists()
    return bool(HUB_ID.fullmatch(name)) and not os.path.exists(name)  # noqa: PTH110
