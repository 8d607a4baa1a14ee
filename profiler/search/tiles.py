"""The largest tile of a VAE that fits: tried on the VAE's own stage, beside whatever else stands on the card meanwhile."""

from dataclasses import replace
from math import prod

from profiler.search.question import Question, StageQuestion, with_reserve
from profiler.search.setting import Setting
from profiler.search.trial import Trial
from profiler.search.vae_switches import class_tile, refusal

SIDES = (2048, 1536, 1280, 1024, 768, 640, 512, 384, 320, 256, 192, 128)  # pixels of squares, which every class takes
VAE_PHASES = ("decode", "image encode")
RESIDENT = ("none", "model")  # placements that hold every weight of the component that runs
Tile = tuple[int, int]


def with_tiles(question: Question, setting: Setting, before: Trial | None) -> Setting:
    """`setting` with the largest tile that fits, or with the smallest one where none does.

    `before` is a trial without tiles: it says what else stands on the card. Left as it is where the class takes no tile
    size, or where no smaller one cuts the frame. A size that the class gets wrong (CogVideoX's of 256x256 changes the
    picture's size) is passed over.
    """
    vae = question.vae_alone
    areas = _tiles(question, setting) if vae else {}
    if vae is None or len(areas) < 2:
        return setting
    if others := _others(setting, before):
        vae = replace(vae, stack=with_reserve(vae.stack, others), trials={})
    tiles, area = list(areas), prod(vae.sides)
    seen = vae.ask(of_vae_alone(vae, setting.with_options(tiling=False, tile=None)))
    fails, fits = -1, len(tiles)
    while fits - fails > 1:
        number = min(max(_guess(vae, setting, seen, area, [areas[tile] for tile in tiles]), fails + 1), fits - 1)
        trial = vae.ask(of_vae_alone(vae, setting.with_options(tiling=True, tile=tiles[number])))
        if trial.found is None:
            del tiles[number]
            fits -= 1
            continue
        seen, area = trial, areas[tiles[number]]
        fails, fits = (fails, number) if _fits(trial, setting) else (number, fits)
    return setting.with_options(tile=tiles[min(fits, len(tiles) - 1)]) if tiles else setting


def of_vae_alone(vae: StageQuestion, setting: Setting) -> Setting:
    """What of a setting the VAE's own stage takes."""
    options = replace(setting.options, attention=None, attention_backend=None)
    dtype = setting.dtype or vae.base.dtype
    return Setting(options=options, dtype=dtype, expandable=setting.expandable, torch=setting.torch)


def _tiles(question: Question, setting: Setting) -> dict[Tile | None, int]:
    """Tiles that cut the frame and their pixels, the largest first; None is the class's own, which needs no size.

    Squares are of whole quarters in latents, so that overlaps are whole latents.
    """
    vae = question.vae_alone
    assert vae is not None
    (height, width), own = vae.sides, class_tile(vae)
    quarter = 4 * vae.spec.latent.spatial_compression
    squares = [side for side in SIDES if side < max(height, width) and side % quarter == 0 and own != (side, side)]
    if squares and refusal(question, setting.with_options(tiling=True, tile=(squares[-1],) * 2)):
        squares = []
    areas: dict[Tile | None, int] = {(side, side): min(side, height) * min(side, width) for side in squares}
    if own and (own[0] < height or own[1] < width):
        areas[None] = min(own[0], height) * min(own[1], width)
    return dict(sorted(areas.items(), key=lambda one: -one[1]))


def _guess(vae: StageQuestion, setting: Setting, seen: Trial, area: int, areas: list[int]) -> int:
    """The number of the largest tile that may fit: what a decoder makes goes by a tile's area, and clips stand beside it."""
    if seen.found is None or seen.capacity <= 0:
        return len(areas) - 1
    weights, clip = seen.found.terms.weights or 0, 4 * 3 * vae.batch * vae.size["frames"] * prod(vae.sides)
    beside = weights + min(4 * clip, (seen.reserved - weights) // 2)
    room = (seen.capacity - beside + _moved(seen, setting)) * area
    return next((number for number, one in enumerate(areas) if (seen.reserved - beside) * one <= room), len(areas) - 1)


def _fits(trial: Trial, setting: Setting) -> bool:
    """Whether the VAE's stage has room, less its weights where the placement moves them."""
    moved = _moved(trial, setting)
    return trial.verdict == "fits" or (moved > 0 and trial.reserved - moved <= trial.capacity)


def _moved(trial: Trial, setting: Setting) -> int:
    return 0 if setting.placement.offload in RESIDENT else trial.estimate.terms.weights or 0


def _others(setting: Setting, before: Trial | None) -> int:
    """Bytes that stand beside the VAE while it runs, by a trial of the whole generation: weights only if none are moved."""
    stays = setting.placement.offload == "none"
    phases = before.found.phases if before and before.found else ()
    beside = (
        phase.live + stays * sum(size for name, size in phase.weights.items() if "vae" not in name)
        for phase in phases
        if phase.name in VAE_PHASES
    )
    return max(beside, default=0)
