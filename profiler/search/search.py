"""The search: combinations of changes in order of what they cost, until a few fit."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice

from profiler.search.changes import Combination, combinations, leanest, without
from profiler.search.pieces import beside, may_fit, with_chunks, with_tiles
from profiler.search.pruning import Pruning
from profiler.search.question import Question
from profiler.search.setting import Change, Setting
from profiler.search.trial import Trial
from profiler.search.troubles import is_led_by_loop

MOST = {True: 3, False: 6}  # traces of a whole generation, of a stage; twice as many where nothing is known to fit
NEXT = 2  # sizes of tiles or chunks beside that which the VAE's own stage finds
CACHE = "expandable-segments"
CHEAP = 2  # of a whole generation: where so many did not fit, the one that takes least is traced next


class Search:
    """Trials of one question by the changes that were made, and why others were not tried."""

    def __init__(self, question: Question, changes: Sequence[Change]) -> None:
        self.question, self.changes = question, changes
        self.made: dict[Combination, Trial] = {}
        self.pruning = Pruning(question, self.made)
        self._lean = question.base.expandable or any(change.name == CACHE for change in changes)

    def run(self, most: int | None = None) -> list[Trial]:
        """Every trial, the cheapest setting first: of `most` traces once something fits, by default `MOST`.

        Where nothing fits, that which takes least is among them: "does not fit" is said only if that does not.
        """
        whole, most, with_floor = self.question.whole, most or MOST[self.question.whole], False
        for combination in combinations(self.changes):
            if self._traces >= most * (1 if with_floor or self._settled else 2):
                break
            if not self.pruning.is_worth(combination):
                continue
            replayed = _without_cache(combination) in self.made
            if whole and not (with_floor or self._fitting or replayed) and self._traces >= CHEAP:
                with_floor = True
                if not self.floor.fits:
                    break
            self.made[combination] = self.question.ask(self._setting(combination))
            self.pruning.learn(combination)
        if with_floor or not self._fitting:
            self.made.setdefault(self.floor.setting.changes, self.floor)
        self._ask_without_the_allocators()
        self._ask_beside()
        return [trial for _, trial in self._in_order]

    @cached_property
    def floor(self) -> Trial:
        """The trial of what takes least of the card, of every kind of change at once.

        Where a pipeline refuses one way of offload (as some do group offload, or sequential), the next leanest is taken.
        """
        changes = [change for change in self.changes if self.pruning.is_taken((change,))]
        while True:
            combination = leanest(changes)
            trial = self.made.get(combination) or self.question.ask(self._setting(combination))
            refused = next((change for change in combination if change.name == "offload"), None)
            if trial.found or refused is None:
                return trial
            changes.remove(refused)

    @property
    def _in_order(self) -> list[tuple[Combination, Trial]]:
        """The trials, the cheapest changes first."""
        return [(one, self.made[one]) for one in combinations(self.changes) if one in self.made]

    @property
    def _fitting(self) -> list[Trial]:
        return [trial for trial in self.made.values() if trial.fits]

    @property
    def _settled(self) -> bool:
        return any(trial.verdict == "fits" for trial in self._fitting)

    @property
    def _traces(self) -> int:
        """How many estimates took a trace of their own: with other segments alone, a trace is replayed."""
        return len({_without_cache(made) for made, trial in self.made.items() if trial.found})

    def _setting(self, combination: Combination) -> Setting:
        """The base with every change of a combination; tiles and chunks as before where only the allocator is another.

        They are the largest that fit by any allocator: to change that costs nothing, and smaller ones cost quality.
        """
        setting, same = self.question.base.with_changes(combination), self.made.get(_without_cache(combination))
        if same:
            return replace(same.setting, expandable=setting.expandable, changes=combination)
        chosen = replace(setting, expandable=self._lean)
        for name, choose in (("decode-chunk", with_chunks), ("tiling", with_tiles)):
            if (before := without(combination, name)) != combination:
                chosen = choose(self.question, chosen, self.pruning.nearest(before))
        return replace(chosen, expandable=setting.expandable)

    def _ask_without_the_allocators(self) -> None:
        """What fits with another allocator is asked with the usual one too: that is the same trace, replayed."""
        for combination, trial in [*self.made.items()]:
            lighter = _without_cache(combination)
            if trial.fits and lighter not in self.made:
                self.made[lighter] = self.question.ask(replace(trial.setting, expandable=False, changes=lighter))

    def _ask_beside(self) -> None:
        """Sizes beside those that the VAE's own stage finds, which does not know what the rest leaves cached.

        Where all is tight, smaller tiles or chunks until one fits by one allocator or the other; else larger chunks of the
        plainest way while they fit: but of an expandable segment the VAE's own stage takes as much as the whole.
        """
        frames, settled = self.question.size["frames"], self._settled
        for combination, trial in self._in_order:
            if trial.verdict != ("fits" if settled else "tight") or (not settled and is_led_by_loop(trial)):
                continue
            family = [one for one in self.made if _without_cache(one) == _without_cache(combination)]
            settings = beside(trial.setting, frames, larger=settled)
            if settled:
                family, settings = [combination], [] if trial.setting.expandable else settings
            tight = [] if settled else [self.made[one] for one in family]
            likely = (one for one in settings if settled or any(may_fit(self.question, trial, one) for trial in tight))
            for setting in islice(likely, NEXT):
                if self._fits(family, setting) != settled:
                    return
            if settled:
                return

    def _fits(self, family: list[Combination], setting: Setting) -> bool:
        """Whether the pieces of `setting` fit by the first of `family` that they do, in the place of which they come."""
        for combination in family:
            expandable = self.made[combination].setting.expandable
            trial = self.question.ask(replace(setting, expandable=expandable, changes=combination))
            if trial.verdict == "fits":
                self.made[combination] = trial
                return True
        return False


def _without_cache(combination: Combination) -> Combination:
    return without(combination, CACHE)


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
