"""The answer of a search: plain data, and its JSON."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from profiler.data.memory import Memory, Verdict
from profiler.data.text import typed
from profiler.data.units import format_bytes
from profiler.search.code import code_of, denoiser_of
from profiler.search.question import GenerationQuestion, Question
from profiler.search.setting import ON_CARD, Setting
from profiler.search.trial import Trial
from profiler.search.vae_switches import switches


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to run it, `settings` by the names of the command line. Sizes in bytes; `command` estimates it again."""

    verdict: Verdict
    settings: dict[str, Any]
    title: str
    peak: Memory
    reserved_bytes: int
    capacity_bytes: int
    headroom_bytes: int
    host_bytes: int | None
    safe_reserved_bytes: int | None
    costs: tuple[str, ...]
    command: str
    code: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"fits": self.verdict != "does not fit"} | asdict(self)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What fits: the plainest way, `alternatives` that take less of the card or of the host, and why the rest does not.

    Where nothing fits, `way` is the one that takes least, `in_the_way` says what it takes, `would_fit` the smallest card and
    the smallest change that would do. `largest` is there where a size was asked for as `max`.
    """

    model: str
    stage: str
    size: dict[str, int]
    gpu: str | None
    way: Way
    alternatives: tuple[Way, ...] = ()
    in_the_way: tuple[dict[str, Any], ...] = ()
    why_not: str = ""
    would_fit: tuple[str, ...] = ()
    largest: dict[str, Any] | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """That of the plainest way."""
        return self.way.verdict

    @property
    def fits(self) -> bool:
        """Whether there is a way."""
        return self.verdict != "does not fit"

    @property
    def code(self) -> str:
        """What to paste."""
        return self.way.code

    @property
    def line(self) -> str:
        """The answer in one line."""
        way, size = self.way, "x".join(map(str, [value for value in self.size.values() if value > 1]))
        what = f"{self.model}{'' if self.stage == 'generate' else f', {self.stage}'}, {size}"
        room = f"{self.gpu} ({format_bytes(way.capacity_bytes)} for torch)"
        host = "" if way.host_bytes is None else f", host {format_bytes(way.host_bytes)}"
        if not self.fits:
            return f"{what} does not fit on {room} by any change allowed: {self.why_not}"
        how = f"with {way.title}" if way.settings else "as it is"
        tight = "tight" if self.verdict == "tight" else "fits"
        return f"{what}: {tight} on {room} {how}: {format_bytes(way.reserved_bytes)} reserved{host}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: the plainest way's keys at the top, `alternatives` with the same ones."""
        own = {name: value for name, value in vars(self).items() if name not in ("way", "why_not")}
        told = {"line": self.line, "alternatives": [way.to_dict() for way in self.alternatives]}
        return self.way.to_dict() | own | told


def way_of(question: Question, trial: Trial) -> Way:
    """A trial as an answer, with its code, which diffusers' classes are asked for."""
    found, setting = trial.estimate, trial.setting
    return Way(
        verdict=trial.verdict, settings=setting.named, title=setting.title, peak=found.peak,
        reserved_bytes=trial.reserved, capacity_bytes=trial.capacity, headroom_bytes=trial.headroom,
        host_bytes=trial.host, safe_reserved_bytes=found.safe_reserved_bytes,
        costs=tuple(_costs(question, setting)), command=_command(question, setting),
        code=code_of(question, setting), note=found.notes.get("fits", ""),
    )  # fmt: skip


def _costs(question: Question, setting: Setting) -> list[str]:
    """What a way costs besides memory, a line a change."""
    told = [change.price for change in setting.changes if change.price]
    if setting.options.tiling and (again := switches(question, setting).recomputed) is not None:
        told.append(f"tiles compute {again:.0%} of the pixels again")
    if isinstance(question, GenerationQuestion) and setting.placement.offload == "model":
        told.append(f"{format_bytes(question.weights(replace(setting, placement=ON_CARD)))} over PCIe a call")
    elif isinstance(question, GenerationQuestion) and setting.placement.offload != "none":
        denoiser = question.model.denoiser if question.model else None
        passes = 2 if denoiser and denoiser.guidance == "sequential" else 1
        if moved := passes * question.component_bytes(setting).get(denoiser_of(question.spec), 0):
            told.append(f"{format_bytes(moved)} over PCIe a step")
    return told


def _command(question: Question, setting: Setting) -> str:
    """The same question to `latentmeter estimate`; what the setting changes of the card's options stands in their place."""
    call = question.call if isinstance(question, GenerationQuestion) else {}
    asked = {"stage": question.stage, **question.sizes, **call, "batch": question.batch if question.batch > 1 else None}
    changed = setting.named
    if setting.expandable:
        changed["alloc-conf"] = setting.stack_of(question.stack).alloc_conf
    return typed("latentmeter", "estimate", question.name, **asked, **{**changed, **question.card, **changed})
