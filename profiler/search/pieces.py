"""How much the VAE codes at once: the largest tile, or chunk of frames, that fits.

It is tried on the VAE's own stage, beside whatever else stands on the card meanwhile.
"""

from dataclasses import replace
from math import prod

from profiler.data.stack import RESERVE
from profiler.data.units import ELEMENT_BYTES
from profiler.search.parts import moved_weights, of_vae_alone
from profiler.search.question import Question, StageQuestion
from profiler.search.setting import Setting
from profiler.search.trial import Trial
from profiler.search.vae_switches import class_tile, refusal

SIDES = (2048, 1536, 1280, 1024, 768, 640, 512, 384, 320, 256, 192, 128)  # pixels of squares, which every class takes
VAE_PHASES = ("decode", "image encode")
Tile = tuple[int, int]
NEXT = 2  # sizes beside the one that the VAE's own stage finds, which a whole generation is asked with


def with_tiles(question: Question, setting: Setting, before: Trial | None) -> Setting:
    """`setting` with the largest tile that fits, or with the smallest one where none does.

    `before` is a trial without tiles: it says what else stands on the card. Left as it is where the class takes no tile
    size, or where no smaller one cuts the frame.
    """
    vae = question.vae_alone
    if vae is None or len(tiles := _tiles(vae, setting)) < 2:
        return setting
    return _largest(_beside_others(vae, setting, before), tiles) or setting


def with_chunks(question: Question, setting: Setting, before: Trial | None) -> Setting:
    """`setting` with the most frames at once that fit, or with one where not even that does; `before` as above."""
    vae = question.vae_alone
    if vae is None:
        return setting
    frames, dtype = vae.size["frames"], setting.dtype or vae.base.dtype or "fp32"
    decoded = 3 * frames * prod(vae.sides) * ELEMENT_BYTES[dtype]  # earlier chunks wait on the card
    chunks = [replace(setting, decode_chunk=n) for n in range(frames - 1, 0, -1)]
    return _largest(_beside_others(vae, setting, before, decoded), chunks) or setting


def beside(setting: Setting, frames: int, *, larger: bool) -> list[Setting]:
    """The same with the next smaller tiles or chunks, or the next larger chunks of so many frames.

    None where their size was asked for, and not chosen.
    """
    chosen, tile, chunk = {change.name for change in setting.changes}, setting.options.tile, setting.decode_chunk
    found: list[Setting] = []
    if "tiling" in chosen and tile and not larger:
        found = [setting.with_options(tile=(side, side)) for side in SIDES if side < min(tile)]
    elif "decode-chunk" in chosen and chunk:
        sizes = range(chunk + 1, frames) if larger else range(chunk - 1, 0, -1)
        found = [replace(setting, decode_chunk=size) for size in sizes]
    return found[:NEXT]


def _largest(vae: StageQuestion, settings: list[Setting]) -> Setting | None:
    """The first of `settings`, from large pieces to small ones, with which the VAE's stage fits; else the last.

    One that the class gets wrong is passed over, as CogVideoX's tiles of 256x256, which change the picture's size. None
    where it gets all of them wrong.
    """
    fails, fits = -1, len(settings)
    while fits - fails > 1:
        at = min(2 * fails + 2, (fails + fits) // 2)  # from large pieces on, which are the quickest to try
        trial = _alone(vae, settings[at])
        if trial.found is None:
            del settings[at]
            fits -= 1
        elif _has_room(trial, settings[at]):
            fits = at
        else:
            fails = at
    return settings[min(fits, len(settings) - 1)] if settings else None


def _alone(vae: StageQuestion, setting: Setting) -> Trial:
    """The VAE's stage on what it decodes at once."""
    one = vae.resized(frames=setting.decode_chunk) if setting.decode_chunk else vae
    return one.ask(of_vae_alone(vae, setting))


def _has_room(trial: Trial, setting: Setting) -> bool:
    """Whether the VAE's stage has room, less its weights where the placement moves them.

    Chunks have to fit by the stage's own verdict: whether they are tight is a matter of what other calls left cached.
    """
    moved = 0 if setting.decode_chunk else moved_weights(trial, setting)
    return trial.verdict == "fits" or (moved > 0 and trial.reserved - moved <= trial.capacity)


def _tiles(vae: StageQuestion, setting: Setting) -> list[Setting]:
    """Tiles that cut the frame, the largest first: squares, and the class's own, which needs no size.

    Squares are of whole quarters in latents, so that overlaps are whole latents.
    """
    (height, width), own = vae.sides, class_tile(vae)
    quarter = 4 * vae.spec.latent.spatial_compression
    squares = [
        (side, side) for side in SIDES if side < max(height, width) and side % quarter == 0 and own != (side, side)
    ]
    if squares and refusal(vae, setting.with_options(tile=squares[-1])):
        squares = []
    sizes: dict[Tile | None, Tile] = dict(zip(squares, squares, strict=True))
    if own and (own[0] < height or own[1] < width):
        sizes[None] = own
    by_area = sorted(sizes, key=lambda tile: -min(sizes[tile][0], height) * min(sizes[tile][1], width))
    return [setting.with_options(tile=tile) for tile in by_area]


def _beside_others(vae: StageQuestion, setting: Setting, before: Trial | None, more: int = 0) -> StageQuestion:
    """`vae` with so much of the card kept free as others take meanwhile, by a trial of the whole generation, and `more`.

    Weights of other components stand there only if none are moved.
    """
    stays = setting.placement.offload == "none"
    phases = before.found.phases if before and before.found else ()
    others = [
        phase.live + stays * sum(size for name, size in phase.weights.items() if "vae" not in name)
        for phase in phases
        if phase.name in VAE_PHASES
    ]
    if not (taken := max(others, default=0) + more):
        return vae
    reserve = {RESERVE: str(vae.stack.reserve_bytes + taken)}
    return replace(vae, stack=replace(vae.stack, settings=vae.stack.settings | reserve), trials={})
