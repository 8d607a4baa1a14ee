"""The search: combinations of changes in order of what they cost, without those that cannot help by what is known."""

from collections.abc import Sequence

from profiler.data.units import format_bytes
from profiler.data.workload import Placement
from profiler.search.ladder import Change, combinations
from profiler.search.pruning import is_enough, is_heavy, may_help
from profiler.search.question import Question
from profiler.search.setting import Setting
from profiler.search.tiles import with_tiles
from profiler.search.trial import Trial
from profiler.search.vae_switches import refusal

Combination = tuple[Change, ...]
WORTH = 0.01  # of a peak: a change that takes less away is of no use
MOST = {True: 3, False: 6}  # traces of a whole generation, of a stage; twice as many where none fits so far


class Search:
    """Trials of one question by the changes that were made, and why others were not tried."""

    def __init__(self, question: Question, changes: Sequence[Change]) -> None:
        self.question, self.changes = question, changes
        self.made: dict[Combination, Trial] = {}
        self.left_out: dict[str, str] = {}
        self._useless: set[Change] = set()
        self._asked: set[Change] = set()

    def run(self) -> list[Trial]:
        """Every trial, the cheapest setting first. At least one: that of the setting that the user asked for."""
        for combination in combinations(self.changes):
            most = MOST[self.question.whole] * (1 if self._settled else 2)
            if self.traces >= most:
                break
            if self._is_worth(combination):
                self._make(combination)
        if not self.made:
            self._make(())
        return [*self.made.values()]

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

    def _make(self, combination: Combination) -> None:
        trial = self.made[combination] = self.question.ask(self._setting(combination))
        for change in combination:
            before = self.made.get(tuple(one for one in combination if one is not change))
            if before and before.found and self._took_nothing(change, before, trial):
                self._useless.add(change)
                self.left_out[change.to(Setting()).title] = trial.refused or "takes nothing away"

    def _setting(self, combination: Combination) -> Setting:
        """The base with every change of a combination; tiles as large as before where only the allocator is another."""
        setting, same = self.question.base, self.made.get(_without_cache(combination))
        for change in combination:
            setting = change.to(setting)
        if same:
            return setting.with_options(tile=same.setting.options.tile)
        if any(change.name == "tiling" for change in combination):
            setting = with_tiles(self.question, setting, self._nearest(combination, but="tiling"))
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
        if self._is_too_heavy(placement or self.question.base.placement):
            return False
        if placement and not all(self._moves_more(placement, trial) for trial in self.made.values()):
            return False
        nearest = self._nearest(combination)
        if nearest and not is_enough([c for c in combination if c.name not in nearest.setting.changes], nearest):
            return False
        befores = [(change, self._nearest(combination, but=change.name)) for change in combination]
        return all(before is None or may_help(change, before) for change, before in befores) and self._is_taken(
            combination
        )

    def _is_taken(self, combination: Combination) -> bool:
        """Whether the VAE's class takes the switches of a combination: asked of the class, once each."""
        for change in combination:
            if change.takes_away == "vae" and change not in self._asked:
                self._asked.add(change)
                if why := refusal(self.question, change.on(self.question.base)):
                    self._useless.add(change)
                    self.left_out[change.to(Setting()).title] = why
        return not self._useless.intersection(combination)

    def _is_too_heavy(self, placement: Placement) -> bool:
        """Whether weights alone are more than the card has, or those that wait on the host are more than that has."""
        question, name = self.question, f"--offload {placement.offload}"
        weights, all_of_them, ram = question.weights(placement), question.weights(Placement()), question.ram
        if not question.whole:
            return False
        if weights > question.capacity:
            self.left_out[name] = f"weights alone take {format_bytes(weights)} at once"
        elif placement != Placement() and ram is not None and all_of_them > ram:
            wait = format_bytes(all_of_them)
            self.left_out[name] = f"{wait} of weights wait on the host, which gives {format_bytes(ram)}"
        else:
            return False
        return True

    def _moves_more(self, placement: Placement, trial: Trial) -> bool:
        """Whether a placement is worth a trace beside what another one takes: of the card, or of the host."""
        other = trial.setting.placement
        if trial.found is None or trial.lacks_ram or other in (placement, Placement()):
            return True
        if placement.low_cpu_mem:  # the same but for the host, which has room
            return False
        top = trial.highest
        return top is None or is_heavy(top)

    def _took_nothing(self, change: Change, before: Trial, after: Trial) -> bool:
        if after.found is None:
            return True
        if change.takes_away not in ("vae", "attention") or (not may_help(change, before)):
            return False
        return all(
            now >= (1 - WORTH) * then
            for now, then in ((after.allocated, before.allocated), (after.reserved, before.reserved))
        )


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
