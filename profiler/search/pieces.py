"""How much the VAE codes at once: the largest tile, or chunk of frames, that fits.

It is tried on the VAE's own stage, beside whatever else stands on the card meanwhile.
"""

from dataclasses import replace
from math import prod

from profiler.data.stack import RESERVE
from profiler.data.units import ELEMENT_BYTES
from profiler.search.parts import moved_weights, of_vae_alone
from profiler.search.question import GenerationQuestion, Question, StageQuestion
from profiler.search.setting import Setting
from profiler.search.trial import Trial
from profiler.search.vae_switches import class_tile, refusal

SIDES = (2048, 1536, 1280, 1024, 768, 640, 512, 384, 320, 256, 192, 128)  # pixels of squares, which every class takes
VAE_PHASES = ("decode", "image encode")
Tile = tuple[int, int]
Piece = tuple[int, Setting]  # how much it is of what is decoded at once, and the setting by which it is


def with_tiles(question: Question, setting: Setting, before: Trial | None) -> Setting:
    """`setting` with the largest tile that fits, or with the smallest one where none does.

    `before` is a trial without tiles: it says what else stands on the card. Left as it is where the class takes no tile
    size, or where no smaller one cuts the frame.
    """
    vae = question.vae_alone
    if vae is None or len(tiles := _tiles(vae, setting)) < 2:
        return setting
    return _largest(question, _beside_others(question, vae, setting, before), prod(vae.sides), tiles) or setting


def with_chunks(question: Question, setting: Setting, before: Trial | None) -> Setting:
    """`setting` with the most frames at once that fit, or with one where not even that does; `before` as above."""
    if (vae := question.vae_alone) is None:
        return setting
    frames, dtype = vae.size["frames"], of_vae_alone(vae, setting).dtype or "fp32"
    decoded = 3 * frames * prod(vae.sides) * ELEMENT_BYTES[dtype]  # earlier chunks wait on the card
    chunks = [(n, replace(setting, decode_chunk=n)) for n in range(frames - 1, 0, -1)]
    return _largest(question, _beside_others(question, vae, setting, before, decoded), frames, chunks) or setting


def may_fit(question: Question, trial: Trial, setting: Setting) -> bool:
    """Whether a tight `trial` may fit with the smaller pieces of `setting`: by as much as the VAE's own stage takes less."""
    if (vae := question.vae_alone) is None:
        return True
    now, then = (_alone(vae, replace(one, expandable=trial.setting.expandable)) for one in (trial.setting, setting))
    return then.found is not None and (now.found is None or trial.safe - now.safe + then.safe <= trial.capacity)


def beside(setting: Setting, frames: int, *, larger: bool) -> list[Setting]:
    """The same with smaller tiles or chunks, or with larger chunks of so many frames, the nearest first.

    None where their size was asked for, and not chosen.
    """
    chosen, tile, chunk = {change.name for change in setting.changes}, setting.options.tile, setting.decode_chunk
    found: list[Setting] = []
    if "tiling" in chosen and tile and not larger:
        found = [setting.with_options(tile=(side, side)) for side in SIDES if side < min(tile)]
    elif "decode-chunk" in chosen and chunk:
        sizes = range(chunk + 1, frames) if larger else range(chunk - 1, 0, -1)
        found = [replace(setting, decode_chunk=size) for size in sizes]
    return found


def _largest(question: Question, vae: StageQuestion, all_at_once: int, pieces: list[Piece]) -> Setting | None:
    """The first of `pieces`, from large ones to small, with which the VAE's stage fits; else the last.

    The next one tried is smaller, or larger, than the last by as much as that took too much, or too little: what is taken
    grows with a piece, nearly in proportion. `vae` is that of `question` beside others, which decodes `all_at_once` without.
    One that the class gets wrong is passed over, as CogVideoX's tiles of 256x256, which change the picture's size. None
    where it gets all of them wrong.
    """
    fails, fits, wrong, wanted = -1, len(pieces), False, float(all_at_once)
    if own := question.vae_alone:
        whole = own.ask(of_vae_alone(vae, Setting(dtype=pieces[0][1].dtype)))
        if whole.found:
            wanted *= vae.capacity / whole.safe
    while fits - fails > 1:
        fitting = next((at for at, (size, _) in enumerate(pieces) if size <= wanted), fits)
        size, setting = pieces[at := min(max(fitting, fails + 1), fits - 1)]
        trial = _alone(vae.resized(frames=1) if wrong else vae, setting)  # where one was wrong, one frame tells it
        if wrong and trial.found:
            trial = _alone(vae, setting)
        if trial.found is None:
            del pieces[at]
            fits, wrong = fits - 1, vae.size["frames"] > 1
            continue
        wanted = size * (vae.capacity + moved_weights(trial, setting)) / trial.safe
        fails, fits = (fails, at) if _has_room(trial, setting) else (at, fits)
    return pieces[min(fits, len(pieces) - 1)][1] if pieces else None


def _alone(vae: StageQuestion, setting: Setting) -> Trial:
    """The VAE's stage on what it decodes at once."""
    one = vae.resized(frames=setting.decode_chunk) if setting.decode_chunk else vae
    return one.ask(of_vae_alone(vae, setting))


def _has_room(trial: Trial, setting: Setting) -> bool:
    """Whether the VAE's stage fits, and is not tight: less its weights where the placement moves them."""
    moved = moved_weights(trial, setting)
    return trial.verdict == "fits" or (moved > 0 and trial.safe - moved <= trial.capacity)


def _tiles(vae: StageQuestion, setting: Setting) -> list[Piece]:
    """Tiles that cut the frame, with their pixels, the largest first: squares, and the class's own, which needs no size.

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
    areas = [(min(size[0], height) * min(size[1], width), tile) for tile, size in sizes.items()]
    return [(area, setting.with_options(tile=tile)) for area, tile in sorted(areas, key=lambda one: -one[0])]


def _beside_others(
    question: Question, vae: StageQuestion, setting: Setting, before: Trial | None, more: int = 0
) -> StageQuestion:
    """`vae` with so much of the card kept free as others take meanwhile, by a trial of the whole generation, and `more`.

    Weights of other components stand there only if none are moved: without a trial, those that are published.
    """
    stays, phases = setting.placement.offload == "none", before.found.phases if before and before.found else ()
    others = [(phase.live, phase.weights) for phase in phases if phase.name in VAE_PHASES]
    if not others and isinstance(question, GenerationQuestion):
        others = [(0, question.component_bytes(setting))]
    takes = [live + stays * sum(b for name, b in weights.items() if "vae" not in name) for live, weights in others]
    if not (taken := max(takes, default=0) + more):
        return vae
    reserve = {RESERVE: str(vae.stack.reserve_bytes + taken)}
    return replace(vae, stack=replace(vae.stack, settings=vae.stack.settings | reserve), trials={})
