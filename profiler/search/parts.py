"""What the denoiser and the VAE take alone: a whole generation takes no less, and each is asked in a second."""

from collections.abc import Iterator
from dataclasses import replace

from profiler.data.workload import MemoryOptions
from profiler.search.question import GenerationQuestion, Question, StageQuestion
from profiler.search.setting import Setting
from profiler.search.trial import Trial

RESIDENT = ("none", "model")  # placements that hold every weight of the component that runs


def lower_bounds(question: Question, setting: Setting) -> Iterator[tuple[str, int]]:
    """What is allocated at least, and its bytes, of a whole generation: what is known without a forward comes first."""
    if isinstance(question, GenerationQuestion):
        yield "weights", question.weights(setting)
        yield "the denoiser's tensors", denoiser_at_least(question, setting) or 0
        yield "the decode's tensors", _decode_at_least(question, setting) or 0


def denoiser_at_least(question: Question, setting: Setting) -> int | None:
    """Bytes that one forward of the denoiser has allocated at least; None where that is not known, or for a stage."""
    if not isinstance(question, GenerationQuestion) or (denoiser := question.denoiser_alone) is None:
        return None
    kernels = MemoryOptions(attention=setting.options.attention, attention_backend=setting.options.attention_backend)
    alone = Setting(options=kernels, dtype=question.dtype_of("transformer", setting), torch=setting.torch)
    return _at_least(question, setting, denoiser.ask(alone))


def _decode_at_least(question: GenerationQuestion, setting: Setting) -> int | None:
    """The same of the decode; of frames that a VAE takes as a batch, as many as the pipeline hands over at once.

    None with tiles, whose size is not chosen yet.
    """
    vae = question.vae_alone
    if vae is None or setting.options.tiling:
        return None
    if vae.takes_frames_as_batch:
        if not (at_once := question.frames_at_once(setting)):
            return None
        vae = vae.resized(frames=at_once, batch=1)
    return _at_least(question, setting, vae.ask(of_vae_alone(vae, replace(setting, expandable=False))))


def of_vae_alone(vae: StageQuestion, setting: Setting) -> Setting:
    """What of a setting the VAE's own stage takes."""
    options = replace(setting.options, attention=None, attention_backend=None)
    dtype = vae.base.dtype if vae.keeps_dtype else setting.dtype or vae.base.dtype
    return Setting(options=options, dtype=dtype, expandable=setting.expandable, torch=setting.torch)


def moved_weights(trial: Trial, setting: Setting) -> int:
    """Bytes of weights that a stage alone has on the card, and that the placement of `setting` moves one by one."""
    return 0 if setting.placement.offload in RESIDENT else trial.estimate.terms.weights or 0


def _at_least(question: GenerationQuestion, setting: Setting, trial: Trial) -> int | None:
    """What a stage that was tried alone allocates, with the weights that stand beside it."""
    if trial.found is None:
        return None
    resident = question.weights(setting) if setting.placement.offload == "none" else 0
    others = max(0, resident - (trial.found.terms.weights or 0))
    return trial.allocated - moved_weights(trial, setting) + others
