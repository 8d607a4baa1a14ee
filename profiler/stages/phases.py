"""The one choreography: the phases that a process goes through around a call, in order, whoever looks on.

    model      the weights become resident          earlier    the sizes that the process ran before
    inputs     the inputs become resident           cold       the first call, whose peak is asked for
    warm       later calls of the same process

The estimate, the measurement and the hot spots all go through `run_phases`, each with a watcher of its own: a trace of
tensors without data, the meter of a device, an observer of one more call.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from profiler.data.records import AppliedOption, Phase
from profiler.data.workload import History, MemoryOptions


class Runnable:
    """Something that can be run phase by phase: a stage of a model, a call of the user's own.

    `module` holds the weights, and module paths are relative to it; `history` is what the process did before; `asked` are
    the memory options asked for, and `options` says, once the weights are loaded, what became of each.
    """

    module: nn.Module
    history = History()
    asked = MemoryOptions()
    options: Mapping[str, AppliedOption] = {}

    def load(self, device: torch.device) -> None:
        """Make the weights resident on `device`, with the memory options applied."""

    def earlier(self) -> "Iterator[Runnable]":
        """The same, loaded, at each size that its history names; the inputs of each are still to be made."""
        return iter(())

    def make_inputs(self, device: torch.device) -> Any:
        """Make the inputs resident on `device` and return them: nested tuples, lists and dicts of tensors."""
        raise NotImplementedError

    def steps(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """The steps of one call, each with the term of what is born in it; the last one gives the output.

        Most calls are one step. A training step has three: forward, backward, and the optimizer's.
        """
        yield "activations", self

    def check_output(self, output: Any) -> None:
        """Raise ModelError where `output` is not what the call must give."""

    def __call__(self) -> Any:
        raise NotImplementedError


class Watcher:
    """Who looks on. Each method says what has just become true; a watcher answers to those that concern it."""

    @property
    def device(self) -> torch.device:
        """Where everything is made."""
        raise NotImplementedError

    def during(self, phase: Phase, term: str, module: nn.Module | None = None) -> AbstractContextManager[Any]:
        """Watch one phase, whose new storages belong to `term`; module paths are relative to `module`."""
        raise NotImplementedError

    def resident(self, values: Any) -> None:
        """The tensors in `values` are resident. Called within their phase."""

    def loaded(self, run: Runnable) -> None:
        """The weights are resident and the options applied. Called after the phase."""

    def empty_cache(self) -> None:
        """`torch.cuda.empty_cache()` is due."""

    def answered(self, output: Any) -> None:
        """The cold call gave `output`."""


def run_phases(run: Runnable, watcher: Watcher, warm_calls: int = 0) -> tuple[tuple[int, ...], ...]:
    """Take `run` through its phases under `watcher`; returns the shapes of the outputs.

    What the call raises goes through. Raises ModelError for an output of another shape than promised.
    """
    with watcher.during("model", "weights"):
        run.load(watcher.device)
        watcher.resident([*run.module.parameters(), *run.module.buffers()])
    watcher.loaded(run)
    for before in run.earlier():
        with watcher.during("earlier", "activations", run.module):
            before.make_inputs(watcher.device)
            before()
        del before  # and with it its inputs, before the next phase
    if run.history.empty_cache:
        watcher.empty_cache()
    with watcher.during("inputs", "inputs"):
        watcher.resident(run.make_inputs(watcher.device))
    output = _call(run, watcher, "cold")
    run.check_output(output)
    watcher.answered(output)
    # Some classes give lists of tensors, or None where a part was not asked for.
    shapes = tuple(tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor))
    for _ in range(warm_calls):
        output = None  # dropped before the next call, as a loop of a user's would
        output = _call(run, watcher, "warm")
    return shapes


def _call(run: Runnable, watcher: Watcher, phase: Phase) -> Any:
    output = None
    for term, step in run.steps():
        with watcher.during(phase, term, run.module):
            output = step()
    return output


class Again(Runnable):
    """A call that has run, to be run once more for a closer look: its weights and inputs are resident already."""

    def __init__(self, run: Runnable, inputs: Any) -> None:
        self.run, self.inputs, self.module = run, inputs, run.module

    def make_inputs(self, device: torch.device) -> Any:
        """Those of the first call."""
        return self.inputs

    def steps(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Those of the first call."""
        return self.run.steps()
