"""The search: combinations of changes in order of what they cost, without those that cannot help by what is known."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from profiler.data.units import format_bytes
from profiler.data.workload import Placement
from profiler.search.alone import alone
from profiler.search.ladder import Change, combinations, leanest
from profiler.search.pruning import is_enough, is_heavy, may_help
from profiler.search.question import Question
from profiler.search.setting import Setting
from profiler.search.tiles import SIDES, with_tiles
from profiler.search.trial import Trial
from profiler.search.vae_switches import refusal

Combination = tuple[Change, ...]
WORTH = 0.01  # of a peak: a change that takes less away is of no use
MOST = {True: 3, False: 6}  # traces of a whole generation, of a stage; twice as many where nothing is known to fit
TILES_BELOW = 2  # that are tried where the largest that the VAE's stage takes is tight
CHEAP = 2  # of a whole generation: where so many did not fit, the one that takes least is traced next


class Search:
    """Trials of one question by the changes that were made, and why others were not tried."""

    def __init__(self, question: Question, changes: Sequence[Change]) -> None:
        self.question, self.changes = question, changes
        self.made: dict[Combination, Trial] = {}
        self.left_out: dict[str, str] = {}
        self._useless: set[Change] = set()
        self._asked: set[Change] = set()

    def run(self, most: int | None = None) -> list[Trial]:
        """Every trial, the cheapest setting first: of `most` traces once something fits, by default `MOST`.

        Where nothing fits, that which takes least is among them: "does not fit" is said only if that does not.
        """
        every, whole, floor = combinations(self.changes), self.question.whole, None
        for combination in every:
            if self.traces >= (most or MOST[whole]) * (1 if self._settled or floor else 2):
                break
            if self._is_worth(combination):
                self._make(combination)
            if whole and not floor and not self.fitting and self.traces >= CHEAP:
                floor = self.floor
                if not floor[1].fits:
                    break
        if floor or not self.fitting:
            self.made.setdefault(*self.floor)
        self._ask_without_the_allocators()
        self.made = {one: self.made[one] for one in every if one in self.made}
        if not self._settled:
            self._ask_smaller_tiles()
        return [*self.made.values()]

    @cached_property
    def floor(self) -> tuple[Combination, Trial]:
        """What takes least of the card, of every kind of change at once, and its trial.

        Where a pipeline refuses one way of offload (as some do group offload, or sequential), the next leanest is taken.
        """
        changes = [change for change in self.changes if self._is_taken((change,))]
        while True:
            combination = leanest(self.question, changes)
            trial = self.made.get(combination) or self.question.ask(self._setting(combination))
            refused = next((change for change in combination if change.name == "offload"), None)
            if trial.found or refused is None:
                return combination, trial
            changes.remove(refused)

    @property
    def fitting(self) -> list[Trial]:
        """The trials that fit or are tight, the cheapest first."""
        return [trial for trial in self.made.values() if trial.fits]

    @property
    def _settled(self) -> bool:
        return any(trial.verdict == "fits" for trial in self.fitting)

    @property
    def traces(self) -> int:
        """How many estimates took a trace of their own: with other segments alone, a trace is replayed."""
        return len({_without_cache(made) for made, trial in self.made.items() if trial.found})

    def _ask_without_the_allocators(self) -> None:
        """What fits with another allocator is asked with the usual one too: that is the same trace, replayed."""
        for combination, trial in [*self.made.items()]:
            lighter = _without_cache(combination)
            if trial.fits and lighter not in self.made:
                changes = tuple(change.name for change in lighter)
                self.made[lighter] = self.question.ask(replace(trial.setting, expandable=False, changes=changes))

    def _ask_smaller_tiles(self) -> None:
        """Where all is tight, the next smaller tiles: the VAE's own stage does not know what the rest leaves cached."""
        for combination, trial in [*self.made.items()]:
            tile = trial.setting.options.tile
            if not (trial.fits and tile and _has_tiling(combination)):  # a tile that was asked for stays
                continue
            for side in [side for side in SIDES if side < min(tile)][:TILES_BELOW]:
                smaller = self.question.ask(trial.setting.with_options(tile=(side, side)))
                if smaller.verdict == "fits":
                    self.made[combination] = smaller
                    return

    def _make(self, combination: Combination) -> None:
        trial = self.made[combination] = self.question.ask(self._setting(combination))
        for change in combination:
            before = self.made.get(tuple(one for one in combination if one is not change))
            if before and before.found and self._took_nothing(change, before, trial):
                self._useless.add(change)
                self.left_out[change.to(Setting()).title] = trial.refused or "takes nothing away"

    def _setting(self, combination: Combination) -> Setting:
        """The base with every change of a combination; tiles as large as before where only the allocator is another."""
        setting, same = self._without_tiles(combination), self.made.get(_without_cache(combination))
        if same:
            return setting.with_options(tile=same.setting.options.tile)
        if _has_tiling(combination):
            setting = with_tiles(self.question, setting, self._nearest(combination, but="tiling"))
        return setting

    def _without_tiles(self, combination: Combination) -> Setting:
        setting = self.question.base
        for change in combination:
            setting = change.to(setting)
        return setting

    def _nearest(self, combination: Combination, but: str = "") -> Trial | None:
        """The trial with most of a combination's changes, without the one named `but`."""
        rest = {change for change in combination if change.name != but}
        known = [made for made in self.made if rest.issuperset(made)]
        return self.made[max(known, key=len)] if known else None

    def _is_worth(self, combination: Combination) -> bool:
        if self._useless.intersection(combination):
            return False
        placement = next((change.on(Setting()).placement for change in combination if change.name == "offload"), None)
        if self._lacks_ram(placement or self.question.base.placement):
            return False
        if placement and not all(self._moves_more(placement, trial) for trial in self.made.values()):
            return False
        nearest = self._nearest(combination)
        if nearest and not is_enough([c for c in combination if c.name not in nearest.setting.changes], nearest):
            return False
        befores = [(change, self._nearest(combination, but=change.name)) for change in combination]
        if not all(before is None or may_help(change, before) for change, before in befores):
            return False
        return self._is_taken(combination) and not self._has_no_room(combination)

    def _is_taken(self, combination: Combination) -> bool:
        """Whether the VAE's class takes the switches of a combination: asked of the class, once each."""
        for change in combination:
            if change.takes_away == "vae" and change not in self._asked:
                self._asked.add(change)
                if why := refusal(self.question, change.on(self.question.base)):
                    self._useless.add(change)
                    self.left_out[change.to(Setting()).title] = why
        return not self._useless.intersection(combination)

    def _has_no_room(self, combination: Combination) -> bool:
        """Whether weights, the denoiser or the decode alone are more than the card has: no trace is needed then."""
        setting = self._without_tiles(combination)
        for what, size in alone(self.question, setting):
            if size > self.question.capacity:
                how = "no tiles" if "decode" in what else f"--offload {setting.placement.offload}"
                self.left_out.setdefault(how, f"{what} alone take {format_bytes(size)} at once")
                return True
        return False

    def _lacks_ram(self, placement: Placement) -> bool:
        """Whether the weights that wait on the host are more than it gives."""
        wait, ram = self.question.weights(Placement()), self.question.ram
        if not self.question.whole or placement == Placement() or ram is None or wait <= ram:
            return False
        why = f"{format_bytes(wait)} of weights wait on the host, which gives {format_bytes(ram)}"
        self.left_out[f"--offload {placement.offload}"] = why
        return True

    def _moves_more(self, placement: Placement, trial: Trial) -> bool:
        """Whether a placement is worth a trace beside what another one takes: of the card, or of the host."""
        other = trial.setting.placement
        if trial.found is None or trial.lacks_ram or other in (placement, Placement()):
            return True
        if placement.low_cpu_mem:  # the same but for the host, which has room
            return False
        return is_heavy(trial)

    def _took_nothing(self, change: Change, before: Trial, after: Trial) -> bool:
        if after.found is None:
            return True
        if change.takes_away not in ("vae", "attention") or (not may_help(change, before)):
            return False
        return all(
            now >= (1 - WORTH) * then
            for now, then in ((after.allocated, before.allocated), (after.reserved, before.reserved))
        )


def _has_tiling(combination: Combination) -> bool:
    return any(change.name == "tiling" for change in combination)


def _without_cache(combination: Combination) -> Combination:
    return tuple(change for change in combination if change.takes_away != "cache")


def plainest(ways: Sequence[Trial]) -> Trial:
    """The cheapest that fits; the cheapest that is tight where none does."""
    return next((way for way in ways if way.verdict == "fits"), ways[0])


def pareto(trials: Sequence[Trial]) -> list[Trial]:
    """Those that fit and that no cheaper one is as good as: in bytes of the card, and of the host."""
    kept: list[Trial] = []
    for trial in trials:
        if trial.fits and not any(
            one.reserved <= trial.reserved and (one.host or 0) <= (trial.host or 0) for one in kept
        ):
            kept.append(trial)
    return kept
