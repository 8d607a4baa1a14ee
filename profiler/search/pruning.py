"""Which combinations of changes need no estimate, by what is known from those that had one, and why."""

from collections.abc import Mapping
from dataclasses import replace

from profiler.data.units import format_bytes
from profiler.data.workload import CAST
from profiler.search.changes import Combination, without
from profiler.search.parts import lower_bounds
from profiler.search.question import GenerationQuestion, Question
from profiler.search.setting import ON_CARD, Change, Setting
from profiler.search.trial import Trial
from profiler.search.troubles import is_enough, is_heavy, may_help
from profiler.search.vae_switches import refusal

WORTH = 0.01  # of a peak: a change that takes less away is of no use


class Pruning:
    """Rules over `made`, the trials so far by their changes. `left_out` says why something was not tried."""

    def __init__(self, question: Question, made: Mapping[Combination, Trial]) -> None:
        self.question, self.made = question, made
        self.left_out: dict[str, str] = {}
        self._useless: set[Change] = set()
        self._taken: set[Change] = set()

    def is_worth(self, combination: Combination) -> bool:
        """Whether a combination may fit where plainer ones do not, or take less. The rules that cost least come first."""
        setting = self.question.base.with_changes(combination)
        return (
            not self._useless.intersection(combination)
            and not self._fits_already(combination)
            and not self._lacks_ram(setting)
            and not self._is_refused_too(setting)
            and all(self._moves_more(setting, trial) for trial in self.made.values())
            and self._helps(combination)
            and self.is_taken(combination)
            and not self._has_no_room(setting)
        )

    def nearest(self, combination: Combination) -> Trial | None:
        """The trial with most of a combination's changes, and no others."""
        known = [made for made in self.made if set(made) <= set(combination)]
        return self.made[max(known, key=len)] if known else None

    def is_taken(self, combination: Combination) -> bool:
        """Whether the VAE's class takes the switches of a combination: asked of the class, once each."""
        for change in combination:
            if change.saves == "vae" and change not in self._taken | self._useless:
                if why := refusal(self.question, change.on(self.question.base)):
                    self._leave_out(change, why)
                else:
                    self._taken.add(change)
        return not self._useless.intersection(combination)

    def learn(self, combination: Combination) -> None:
        """Leave out the changes of a trial that was just made which took nothing away from a trial without them."""
        trial = self.made[combination]
        for change in combination:
            before = self.made.get(without(combination, change.name))
            if before and before.found and _took_nothing(change, before, trial):
                self._leave_out(change, trial.refused or "takes nothing away")

    def _leave_out(self, change: Change, why: str) -> None:
        self._useless.add(change)
        self.left_out[change.title] = why

    def _fits_already(self, combination: Combination) -> bool:
        """Whether what fits has some of these changes, without one of those that cost nothing: nobody wants for it then."""
        free, dear = _apart(combination)
        fitting = (_apart(made) for made, trial in self.made.items() if trial.verdict == "fits")
        return any(its_dear <= dear and not free <= its_free for its_free, its_dear in fitting)

    def _helps(self, combination: Combination) -> bool:
        """Whether the changes are enough for what is in the way without them, and each of them takes from something."""
        nearest = self.nearest(combination)
        if nearest and not is_enough(set(combination).difference(nearest.setting.changes), nearest):
            return False
        befores = ((change, self.nearest(without(combination, change.name))) for change in combination)
        return all(before is None or may_help(change, before) for change, before in befores)

    def _has_no_room(self, setting: Setting) -> bool:
        """Whether weights, the denoiser or the decode alone are more than the card has: no trace is needed then."""
        for what, size in lower_bounds(self.question, setting):
            if size > self.question.capacity:
                how = f"--offload {setting.placement.offload}" + ", the decode as it is" * ("decode" in what)
                is_all_there = setting.placement.offload == "none" and what != "weights"
                what += " and the weights beside them" if is_all_there else " alone"
                self.left_out.setdefault(how, f"{what} take {format_bytes(size)} at once")
                return True
        return False

    def _is_refused_too(self, setting: Setting) -> bool:
        """Whether weights come over a stream, and those of another way over a stream are cast before they come."""
        return setting.placement.stream and any(CAST in trial.refused for trial in self.made.values())

    def _lacks_ram(self, setting: Setting) -> bool:
        """Whether the weights that wait on the host are more than it gives."""
        question, ram = self.question, self.question.ram
        if not isinstance(question, GenerationQuestion) or setting.placement == ON_CARD or ram is None:
            return False
        if lacks := (wait := question.weights(replace(setting, placement=ON_CARD))) > ram:
            why = f"{format_bytes(wait)} of weights wait on the host, which gives {format_bytes(ram)}"
            self.left_out[f"--offload {setting.placement.offload}"] = why
        return lacks

    def _moves_more(self, setting: Setting, trial: Trial) -> bool:
        """Whether a placement is worth a trace beside what another one takes: of the card, or of the host."""
        mine, other = setting.placement, trial.setting.placement
        if trial.found is None or trial.lacks_ram or mine in (ON_CARD, other) or other == ON_CARD:
            return True
        return not mine.low_cpu_mem and is_heavy(trial)  # that is the same but for the host, which has room


def _apart(combination: Combination) -> tuple[set[Change], set[Change]]:
    """The changes that cost nothing, and the others."""
    free = {change for change in combination if change.costs == "nothing"}
    return free, {*combination} - free


def _took_nothing(change: Change, before: Trial, after: Trial) -> bool:
    if after.found is None:
        return True
    if change.saves not in ("vae", "attention") or not may_help(change, before):
        return False
    least = 1 - WORTH
    return after.allocated >= least * before.allocated and after.reserved >= least * before.reserved
