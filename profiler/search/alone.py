"""What the denoiser and the VAE take by themselves: a whole generation takes no less, and each is asked in a second."""

from collections.abc import Iterator
from dataclasses import replace

from profiler.data.workload import MemoryOptions
from profiler.search.question import GenerationQuestion, Question, StageQuestion
from profiler.search.setting import Setting
from profiler.search.tiles import RESIDENT, of_vae_alone


def alone(question: Question, setting: Setting) -> Iterator[tuple[str, int]]:
    """What is allocated at least, and its bytes, of a whole generation: what is known without a forward comes first."""
    if question.whole:
        yield "weights", question.weights(setting.placement)
        yield "the denoiser's tensors", denoiser_alone(question, setting) or 0
        yield "the decode's tensors", _decode(question, setting) or 0


def denoiser_alone(question: Question, setting: Setting) -> int | None:
    """Bytes that one forward of the denoiser has allocated at least; None where that is not known, or for a stage."""
    if not isinstance(question, GenerationQuestion) or (denoiser := question.denoiser_alone) is None:
        return None
    kernels = MemoryOptions(attention=setting.options.attention, attention_backend=setting.options.attention_backend)
    asked = Setting(options=kernels, dtype=denoiser.base.dtype, torch=setting.torch)
    return _least(question, setting, denoiser, asked)


def _decode(question: Question, setting: Setting) -> int | None:
    """Nothing is said of tiles, which are chosen by the decode's own stage (tiles.py), nor of a clip whose VAE codes frame
    by frame, as pipelines decode it in chunks of their own.
    """
    vae = question.vae_alone if question.whole else None
    if vae is None or setting.options.tiling or (vae.size["frames"] > 1 and vae.spec.latent.layout == "BCHW"):
        return None
    return _least(question, setting, vae, replace(of_vae_alone(vae, setting), expandable=False))


def _least(question: Question, setting: Setting, part: StageQuestion, asked: Setting) -> int | None:
    """What a stage allocates, with the weights that the placement holds meanwhile."""
    trial = part.ask(asked)
    if trial.found is None:
        return None
    own, offload = trial.found.terms.weights or 0, setting.placement.offload
    stand = max(own, question.weights(setting.placement) if offload == "none" else 0)
    return trial.allocated - own + (stand if offload in RESIDENT else 0)
