"""Which classes of the installed diffusers can be estimated: each autoencoder and denoiser tried, with the reason if not."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from profiler.data.units import format_bytes, round_up
from profiler.data.workload import StageName
from profiler.errors import LatentmeterError, UserError
from profiler.models.size_rules import step_and_first

Kind = Literal["autoencoder", "denoiser"]
# Of a trial of an autoencoder, to keep it short; the published size where a class does not take it.
SMALL, SMALL_FRAMES = {"height": 256, "width": 256}, 16
# Of a denoiser alone, which has no published size.
IMAGE, CLIP, CLIP_FRAMES, TEXT_LENGTH = {"height": 1024, "width": 1024}, {"height": 512, "width": 768}, 48, 512
SOUND = re.compile(r"audio|music|sound|waveform|vocoder", re.IGNORECASE)


@dataclass(frozen=True)
class Trial:
    """One stage of one class. `key` names model and size; `reason` says why it failed, or why it is not in scope."""

    class_name: str
    kind: Kind
    stage: StageName | None
    status: Literal["ok", "failed", "out of scope"]
    model: str | None = None
    key: str | None = None
    peak_bytes: int | None = None
    notes: str | None = None
    reason: str | None = None

    @property
    def cells(self) -> list[str]:
        """What a table says of it: class, stage, result, case, peak allocated, remark."""
        peak = format_bytes(self.peak_bytes) if self.peak_bytes is not None else "-"
        return [self.class_name, self.stage or "-", self.status, self.key or "-", peak, self.reason or self.notes or ""]


def class_names() -> dict[str, Kind]:
    """Every autoencoder, transformer and U-Net that diffusers exports, with its kind."""
    import diffusers
    from torch import nn

    found: dict[str, Kind] = {}
    for name in sorted(diffusers._import_structure["models"]):
        cls = getattr(diffusers, name)
        if not isinstance(cls, type) or not issubclass(cls, nn.Module):
            continue
        package = cls.__module__.split(".")[2]
        if package == "autoencoders":
            found[name] = "autoencoder"
        elif package in ("transformers", "unets"):
            found[name] = "denoiser"
    return found


def out_of_scope(class_name: str, kind: Kind) -> str | None:
    """Why a class makes no images or videos; None where it does. By its name, its first sentence and its parameters."""
    from profiler.models.build import component_class
    from profiler.models.inputs import class_entry

    cls = component_class(class_name)
    sentence = (cls.__doc__ or "").strip().split("\n\n")[0]
    about = f"{cls.__module__} {class_name} {sentence}"
    if SOUND.search(about) and not re.search("video", about, re.IGNORECASE):
        return "sound: its latents are no image or clip"
    if "1D" in class_name:
        return "signals: its latents have one axis"
    if re.search("protein|molec", about, re.IGNORECASE):
        return "molecules: its latents are no image or clip"
    parameters = inspect.signature(cls.forward).parameters
    has_time = any("timestep" in name or name == "t" for name in parameters)
    if kind == "denoiser" and not has_time and not class_entry(class_name).inputs:
        return "no denoiser: its forward takes no timestep"
    return None


def coverage(
    classes: Sequence[str] = (), *, gpu: str = "h200", tell: Callable[[int, int, list[Trial]], None] = lambda *_: None
) -> list[Trial]:
    """Every autoencoder and denoiser class of the installed diffusers, or `classes`, each stage tried for card `gpu`.

    `tell` gets how many are done, of how many, and the last one's trials. Raises UserError for a class that is not there.
    """
    known = class_names()
    if unknown := set(classes) - known.keys():
        raise UserError(f"diffusers has no autoencoder or denoiser class {', '.join(sorted(unknown))}")
    names = {name: known[name] for name in classes} or known
    trials = []
    for done, (name, kind) in enumerate(names.items(), 1):
        found = try_class(name, kind, gpu)
        trials += found
        tell(done, len(names), found)
    return sorted(trials, key=lambda trial: (trial.kind, trial.class_name))


def try_class(class_name: str, kind: Kind, gpu: str) -> list[Trial]:
    """Estimate each stage of one class: of the catalog's model of it, or of its defaults."""
    if (reason := out_of_scope(class_name, kind)) is not None:
        return [Trial(class_name, kind, None, "out of scope", reason=reason)]
    if kind == "denoiser":
        return [_try_stage(class_name, kind, "denoise", gpu)]
    from profiler.models.build import component_class

    stages: tuple[StageName, ...] = (
        ("encode", "decode") if hasattr(component_class(class_name), "encode") else ("decode",)
    )
    return [_try_stage(class_name, kind, stage, gpu) for stage in stages]


def _try_stage(class_name: str, kind: Kind, stage: StageName, gpu: str) -> Trial:
    from profiler.estimation.estimator import estimate
    from profiler.machine.target import target_stack
    from profiler.models.catalog import models_with
    from profiler.models.component import read_class

    model = class_name
    try:
        same = models_with("vae" if kind == "autoencoder" else "denoiser", class_name)
        spec = same[0] if same else read_class(class_name)
        model = spec.id
        found = estimate(_workload(spec, stage), spec, target_stack(gpu, None, None)[0])
    except LatentmeterError as error:
        return Trial(class_name, kind, stage, "failed", model=model, reason=" ".join(str(error).split()))
    notes = "; ".join(found.notes[name] for name in ("masks", "choices") if name in found.notes) or None
    size = found.peak.allocated_bytes
    return Trial(class_name, kind, stage, "ok", model, found.workload.key, peak_bytes=size, notes=notes)


def _workload(spec: Any, stage: StageName) -> Any:
    """A small clip for an autoencoder where its contract takes one, else the published size, or one that most take."""
    rule = spec.frame_rule(stage)
    text_length = TEXT_LENGTH if spec.text is not None and spec.text.length is None else None
    if stage == "denoise":
        size = (IMAGE if rule == "image" else CLIP) | _frames(rule, CLIP_FRAMES)
        return spec.workload(stage, **({} if spec.default else size), text_length=text_length)
    try:
        return spec.workload(stage, **SMALL, **_frames(rule, SMALL_FRAMES))
    except UserError:
        return spec.workload(stage)


def _frames(rule: str, least: int) -> dict[str, int]:
    """At least so many, rounded up to a number that the rule allows; one of a picture."""
    if rule in ("any", "image"):
        return {"frames": least if rule == "any" else 1}
    step, first = step_and_first(rule)
    return {"frames": round_up(least, step) + first}


def summary(trials: Sequence[Trial]) -> str:
    """`autoencoders 27 of 27, denoisers 74 of 76, out of scope 20`: classes of which every stage estimates."""
    parts, failed = [], {trial.class_name for trial in trials if trial.status == "failed"}
    for kind in ("autoencoder", "denoiser"):
        tried = {trial.class_name for trial in trials if trial.kind == kind and trial.status != "out of scope"}
        parts.append(f"{kind}s {len(tried - failed)} of {len(tried)}")
    outside = sum(trial.status == "out of scope" for trial in trials)
    return ", ".join([*parts, f"out of scope {outside}"])
