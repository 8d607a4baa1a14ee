"""The largest tile of a VAE that fits: tried on the VAE's own stage, beside whatever else stands on the card meanwhile."""

from dataclasses import replace
from typing import Any

from profiler.search.question import Question, StageQuestion, with_reserve
from profiler.search.setting import Setting
from profiler.search.trial import Trial

SIDES = (
    2048,
    1536,
    1280,
    1024,
    768,
    640,
    512,
    384,
    320,
    256,
    192,
    128,
)  # pixels of square tiles, which every class takes
MOST_TRIED = 5
VAE_PHASES = ("decode", "image encode")


def with_tiles(question: Question, setting: Setting, before: Trial | None) -> Setting:
    """`setting` with the largest tile that fits, or with the smallest one where none does.

    `before` is a trial without tiles: it says what else stands on the card. Left as it is where the class takes no tile
    size, or where no smaller one cuts the frame.
    """
    vae = question.of_vae(setting)
    if vae is None:
        return setting
    vae = replace(vae, stack=with_reserve(vae.stack, _others(before)), trials={})
    sides = _sides(vae)
    best = smallest = None
    number, step, tried = _first_guess(vae, setting, sides), 0, 0
    while 0 <= number < len(sides) and tried < MOST_TRIED:
        trial = vae.ask(_tiled(vae, setting, sides[number]))
        tried += 1
        if trial.found is None:
            return setting
        smallest = min(smallest or sides[number], sides[number])
        if trial.verdict == "fits":
            best = max(best or 0, sides[number])
        wanted = -1 if trial.verdict == "fits" else 1  # towards larger tiles, or smaller ones
        if step not in (0, wanted):
            break
        step, number = wanted, number + wanted
    side = best or smallest
    return setting.with_options(tile=(side, side)) if side else setting


def _tiled(vae: StageQuestion, setting: Setting, side: int) -> Setting:
    changed = setting.with_options(tiling=True, tile=(side, side), attention=None, attention_backend=None)
    return Setting(options=changed.options, dtype=setting.dtype or vae.base.dtype, expandable=setting.expandable)


def _sides(vae: StageQuestion) -> list[int]:
    """The largest first; of whole quarters in latents, so that overlaps are whole latents; smaller than the frame."""
    quarter, longest = 4 * vae.spec.latent.spatial_compression, max(vae.size["height"], vae.size["width"])
    return [side for side in SIDES if side < longest and side % quarter == 0]


def _first_guess(vae: StageQuestion, setting: Setting, sides: list[int]) -> int:
    """Where to begin: what a decoder makes goes by the area of a tile, and a few clips stand beside it. Only a guess."""
    whole = replace(setting.options, tiling=False, tile=None, attention=None, attention_backend=None)
    plain = vae.ask(Setting(options=whole, dtype=setting.dtype or vae.base.dtype))
    if plain.found is None or plain.capacity <= 0:
        return max(0, len(sides) - 2)
    size: dict[str, Any] = vae.size
    area, clip = size["height"] * size["width"], 4 * 3 * vae.batch * size["frames"] * size["height"] * size["width"]
    weights = plain.found.terms.weights or 0
    room = plain.capacity - weights - 4 * clip
    for number, side in enumerate(sides):
        share = min(side, size["height"]) * min(side, size["width"]) / area
        if (plain.reserved - weights) * share <= room:
            return number
    return max(0, len(sides) - 1)


def _others(before: Trial | None) -> int:
    """Bytes that stand beside the VAE while it runs, by a trial of the whole generation."""
    phases = before.found.phases if before and before.found else ()
    beside = (
        phase.live + sum(size for name, size in phase.weights.items() if "vae" not in name)
        for phase in phases
        if phase.name in VAE_PHASES
    )
    return max(beside, default=0)
