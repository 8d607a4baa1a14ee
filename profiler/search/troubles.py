"""What keeps a trial from fitting, and which changes take from it, by where the trial's memory stands."""

from collections.abc import Iterable
from itertools import takewhile

from profiler.data.memory import PhasePeak
from profiler.search.pieces import VAE_PHASES
from profiler.search.setting import Change
from profiler.search.trial import Trial

WEIGH = 0.1  # of a moment: where weights are less, moving them takes little away


def may_help(change: Change, trial: Trial) -> bool:
    """Whether a change takes away some of what keeps a trial from fitting or, where it fits, lowers its peak."""
    if trial.found is None or trial.lacks_ram:
        return trial.found is not None and change.name == "offload"
    if trial.fits:
        return _is_alternative(change, trial)
    return any(_takes_from(change, phase, trial) for phase in _troubles(trial))


def is_enough(changes: Iterable[Change], trial: Trial) -> bool:
    """Whether something is done about everything that keeps a trial from fitting."""
    if trial.found is None or trial.lacks_ram or trial.fits:
        return True
    return all(any(_takes_from(change, phase, trial) for change in changes) for phase in _troubles(trial))


def is_heavy(trial: Trial) -> bool:
    """Whether weights are much of a moment that is too large or, where it fits, of the highest."""
    phases = [trial.highest] if trial.fits else _troubles(trial)
    return any(one is None or sum(one.weights.values()) > WEIGH * (one.peak.allocated_bytes or 0) for one in phases)


def is_in_vae(trial: Trial) -> bool:
    """Whether some of what keeps a trial from fitting stands where the VAE runs."""
    return not trial.fits and any(phase is None or phase.name in VAE_PHASES for phase in _troubles(trial))


def is_led_by_loop(trial: Trial) -> bool:
    """Whether a first call reserves most before it decodes: smaller pieces change nothing then.

    With room for everything, as cached segments that are given back would hide what a decode adds; those that expand serve
    the decode as they are.
    """
    reserved = [(phase.name, phase.peak.reserved_bytes or 0) for phase in trial.estimate.phases if phase.call == 1]
    before = list(takewhile(lambda phase: phase[0] != "decode", reserved))
    loop = max((size for name, size in before if name not in VAE_PHASES), default=0)
    roomy = trial.estimate.roomy
    most = dict(reserved).get("decode") if trial.setting.expandable else roomy.reserved_bytes if roomy else None
    return most is not None and most <= loop


def _troubles(trial: Trial) -> list[PhasePeak | None]:
    """The phases that are too large; else the first that reserves too much, or the highest. None stands for a stage."""
    phases = trial.estimate.phases
    over = [phase for phase in phases if (phase.peak.reserved_bytes or 0) > trial.capacity]
    return [*(trial.too_large or over[:1])] or [trial.highest]


def _takes_from(change: Change, phase: PhasePeak | None, trial: Trial) -> bool:
    match change.saves:
        case "cache":
            return trial.allocated <= trial.capacity
        case "vae":
            return phase is None or phase.name in VAE_PHASES
        case "weights":
            return phase is not None and phase.live + phase.activations <= trial.capacity
        case "attention":
            return any("attention math" in route for route in trial.estimate.routes)
        case _:
            return True


def _is_alternative(change: Change, trial: Trial) -> bool:
    """Whether a change lowers the peak of what fits already. One that costs nothing is none, unless it is tight."""
    top, tight = trial.highest, trial.verdict == "tight"
    match change.saves:
        case "cache":
            return tight
        case "vae":
            return (tight or change.costs == "quality") and (top is None or top.name in VAE_PHASES)
        case "weights":
            return top is not None and is_heavy(trial)
        case _:
            return change.name == "dtype" and not trial.setting.changes
