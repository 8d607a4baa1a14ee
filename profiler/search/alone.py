"""What the denoiser and the VAE take by themselves: a whole generation takes no less, and each is asked in a second."""

from dataclasses import replace

from profiler.data.workload import MemoryOptions
from profiler.search.question import GenerationQuestion, Question, StageQuestion
from profiler.search.setting import Setting
from profiler.search.tiles import of_vae_alone

RESIDENT = ("none", "model")  # placements that hold every weight of the component that runs


def alone(question: Question, setting: Setting) -> dict[str, int]:
    """Bytes that one forward of the denoiser, and the decode, have allocated at least. Empty for what is not known."""
    found = {"the denoiser": denoiser_alone(question, setting), "decode": _decode(question, setting)}
    return {name: size for name, size in found.items() if size is not None}


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
