"""How much the VAE codes at once: the largest tile, or chunk of frames, that fits.

It is tried on the VAE's own stage, beside whatever else stands on the card meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
NEXT = 2  # sizes beside the one that the VAE's own stage finds, which a whole generation is asked with


@dataclass(frozen=True)
class Piece:
    """What the VAE codes at once, with a setting: so many pixels."""

    setting: Setting
    pixels: int


def with_tiles(question: Question, setting: Setting, before: Trial | None) -> Setting:
    """`setting` with the largest tile that fits, or with the smallest one where none does.

    `before` is a trial without tiles: it says what else stands on the card. Left as it is where the class takes no tile
    size, or where no smaller one cuts the frame.
    """
    vae = question.vae_alone
    if vae is None or len(tiles := _tiles(vae, setting)) < 2:
        return setting
    uncut = Piece(setting.with_options(tiling=False, tile=None), prod(vae.sides))
    return _largest(_beside_others(vae, setting, before), uncut, tiles) or setting


def with_chunks(question: Question, setting: Setting, before: Trial | None) -> Setting:
    """`setting` with the most frames at once that fit, or with one where not even that does; `before` as above."""
    vae = question.vae_alone
    if vae is None:
        return setting
    frame, frames = prod(vae.sides), vae.size["frames"]
    decoded = 3 * frames * frame * ELEMENT_BYTES[setting.dtype or vae.base.dtype or "fp32"]  # earlier chunks wait there
    chunks = [Piece(replace(setting, decode_chunk=n), n * frame) for n in range(frames - 1, 0, -1)]
    uncut = Piece(replace(setting, decode_chunk=None), frames * frame)
    return _largest(_beside_others(vae, setting, before, decoded), uncut, chunks) or setting


CHOICES: dict[str, Callable[[Question, Setting, Trial | None], Setting]]  # by the change's name
CHOICES = {"decode-chunk": with_chunks, "tiling": with_tiles}


def smaller_pieces(setting: Setting) -> list[Setting]:
    """The same with the next smaller tiles or chunks; none where their size was asked for, and not chosen."""
    chosen, tile, chunk = {change.name for change in setting.changes}, setting.options.tile, setting.decode_chunk
    found: list[Setting] = []
    if "tiling" in chosen and tile:
        found = [setting.with_options(tile=(side, side)) for side in SIDES if side < min(tile)]
    elif "decode-chunk" in chosen and chunk:
        found = [replace(setting, decode_chunk=n) for n in range(chunk - 1, 0, -1)]
    return found[:NEXT]


def larger_chunks(setting: Setting, frames: int) -> list[Setting]:
    """The same with the next larger chunks of a clip, likewise: the VAE's own stage is stricter than the whole may be."""
    chunk = setting.decode_chunk if "decode-chunk" in {change.name for change in setting.changes} else None
    return [replace(setting, decode_chunk=n) for n in range(chunk + 1, frames)][:NEXT] if chunk else []


def _largest(vae: StageQuestion, uncut: Piece, pieces: list[Piece]) -> Setting | None:
    """The setting of the largest of `pieces`, which come first, with which the VAE's stage fits; else of the smallest.

    A size that the class gets wrong is passed over, as CogVideoX's tiles of 256x256, which change the picture's size. None
    where it gets all of them wrong.
    """
    last, seen = uncut, _alone(vae, uncut.setting)
    fails, fits = -1, len(pieces)
    while fits - fails > 1:
        number = min(max(_guess(vae, last, seen, pieces), fails + 1), fits - 1)
        trial = _alone(vae, pieces[number].setting)
        if trial.found is None:
            del pieces[number]
            fits -= 1
            continue
        last, seen = pieces[number], trial
        fails, fits = (fails, number) if _has_room(trial, last.setting) else (number, fits)
    return pieces[min(fits, len(pieces) - 1)].setting if pieces else None


def _alone(vae: StageQuestion, setting: Setting) -> Trial:
    """The VAE's stage on what it decodes at once."""
    one = vae.resized(frames=setting.decode_chunk) if setting.decode_chunk else vae
    return one.ask(of_vae_alone(vae, setting))


def _guess(vae: StageQuestion, last: Piece, seen: Trial, pieces: list[Piece]) -> int:
    """The number of the largest piece that may fit, by the trial of the `last` one.

    What a decoder makes goes by the piece's pixels; weights and clips stand beside it.
    """
    if seen.found is None or seen.capacity <= 0:
        return len(pieces) - 1
    weights, clip = seen.found.terms.weights or 0, 4 * 3 * vae.batch * vae.size["frames"] * prod(vae.sides)
    beside = weights + min(4 * clip, (seen.reserved - weights) // 2)
    made, room = seen.reserved - beside, seen.capacity - beside + moved_weights(seen, last.setting)
    fitting = (number for number, piece in enumerate(pieces) if made * piece.pixels <= room * last.pixels)
    return next(fitting, len(pieces) - 1)


def _has_room(trial: Trial, setting: Setting) -> bool:
    """Whether the VAE's stage has room, less its weights where the placement moves them.

    Chunks have to fit by the stage's own verdict: whether they are tight is a matter of what other calls left cached.
    """
    moved = 0 if setting.decode_chunk else moved_weights(trial, setting)
    return trial.verdict == "fits" or (moved > 0 and trial.reserved - moved <= trial.capacity)


def _tiles(vae: StageQuestion, setting: Setting) -> list[Piece]:
    """Tiles that cut the frame, the largest first: squares, and the class's own, which needs no size.

    Squares are of whole quarters in latents, so that overlaps are whole latents.
    """
    (height, width), own = vae.sides, class_tile(vae)
    quarter = 4 * vae.spec.latent.spatial_compression
    squares = [side for side in SIDES if side < max(height, width) and side % quarter == 0 and own != (side, side)]
    found = [Piece(setting.with_options(tile=(side, side)), min(side, height) * min(side, width)) for side in squares]
    if found and refusal(vae, found[-1].setting):
        found = []
    if own and (own[0] < height or own[1] < width):
        found.append(Piece(setting.with_options(tile=None), min(own[0], height) * min(own[1], width)))
    return sorted(found, key=lambda piece: -piece.pixels)


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
