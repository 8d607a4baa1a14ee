"""One question answered: the search, at the largest size where one is asked for, and what would fit where nothing does."""

from collections.abc import Sequence
from functools import cached_property

from profiler.data.units import format_bytes
from profiler.errors import UserError
from profiler.search.changes import allowed
from profiler.search.instead import smaller_size, smallest_card
from profiler.search.largest import largest
from profiler.search.parts import denoiser_at_least
from profiler.search.question import Question
from profiler.search.result import Fit, way_of
from profiler.search.search import Search, pareto, plainest
from profiler.search.setting import Change, Setting
from profiler.search.trial import Trial
from profiler.search.troubles import is_in_vae

NOTES = ("stack.", "model.", "capacity", "steps", "lora", "safety_checker")  # of an estimate, that are the answer's too
UNIFIED = "this card's memory is the host's: what waits there takes it too, so offload is not tried"


class Answer:
    """A question, the changes that may be made, and the size that is free, if one is. `best` is the trial it ended at.

    Raises UserError for changes of which none can be made.
    """

    best: Trial
    _last: Setting | None = None

    def __init__(self, question: Question, allow: Sequence[str], free: str | None = None) -> None:
        self.question, self.allow, self.free = question, allow, free
        if allow and not self.changes:
            raise UserError(f"allow: nothing to search: none of {', '.join(allow)} applies here, or it is set already")

    @cached_property
    def changes(self) -> list[Change]:
        """Those that may be made, the cheapest first; not looked for where one setting alone is asked about."""
        return allowed(self.allow, self.question)

    def fit(self) -> Fit:
        """The whole answer."""
        found, question = None, self.question
        if self.free:
            question, found = largest(question, self.free, self._floor, self._denoiser)
            self.question = question
        search = Search(question, self.changes)
        trials = [trial for trial in search.run(1 if self.free and question.whole else None) if trial.found]
        if not trials:
            raise UserError(next(iter(search.made.values())).refused)
        ways = pareto(trials)
        best = plainest(ways) if ways else min(trials, key=lambda one: (one.lacks_ram, one.reserved))
        self.best = best
        return Fit(
            model=question.name,
            stage=question.stage,
            size=question.size | ({"batch": question.batch} if question.batch > 1 else {}),
            gpu=question.stack.gpu,
            way=way_of(question, best),
            alternatives=tuple(way_of(question, trial) for trial in ways if trial is not best),
            in_the_way=tuple(best.in_the_way),
            why_not=best.why_not,
            would_fit=() if ways else tuple(self._would_fit(best)),
            largest=found,
            left_out=search.pruning.left_out,
            notes=self._notes(best),
        )

    def _floor(self, question: Question) -> Trial:
        """The trial of what takes least: what fits at all fits so. Its tiles are the last size's, if these do still."""
        if self._last and question.whole:
            trial = question.ask(self._last)
            if trial.found and not is_in_vae(trial):
                return trial
        trial = Search(question, self.changes).floor
        self._last = trial.setting if trial.found else None
        return trial

    def _denoiser(self, question: Question) -> int | None:
        """Bytes that the denoiser alone takes with the leanest placement allowed."""
        offload = [change for change in self.changes if change.name == "offload"]
        return denoiser_at_least(question, question.base.with_changes(tuple(offload[-1:])))

    def _would_fit(self, best: Trial) -> list[str]:
        """The smallest card on which the leanest way runs, and the nearest smaller size that runs here."""
        if best.lacks_ram:
            return [f"a host that gives {format_bytes(best.host)}"]
        found = smallest_card(self.question, best), smaller_size(self.question, best, self._floor, self._denoiser)
        return [*filter(None, found)]

    def _notes(self, best: Trial) -> dict[str, str]:
        notes = {name: text for name, text in best.estimate.notes.items() if name.startswith(NOTES)}
        if best.setting.expandable:  # that is the answer's own, and no setting of who asks
            notes = {name: text for name, text in notes.items() if name not in ("stack.settings", "stack.alloc_conf")}
        return {**notes, **self.question.notes} | ({"unified": UNIFIED} if self.question.stack.unified else {})
