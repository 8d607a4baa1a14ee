"""latentmeter: how much GPU memory a latent diffusion model needs, estimated, measured and compared.

Each name is imported when it is first asked for: for the sake of `testing/plugin.py` pytest imports this package at its
start, in every project of an environment that has it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from profiler._version import __version__ as __version__

if TYPE_CHECKING:
    from profiler.api import accuracy as accuracy
    from profiler.api import compare as compare
    from profiler.api import comparisons as comparisons
    from profiler.api import estimate as estimate
    from profiler.api import hotspots as hotspots
    from profiler.api import make_recording as make_recording
    from profiler.api import measure as measure
    from profiler.api import run as run
    from profiler.comparison.case import to_frame as to_frame
    from profiler.data.latent import estimate_video_latent_memory as estimate_video_latent_memory
    from profiler.data.workload import MemoryOptions as MemoryOptions
    from profiler.data.workload import Placement as Placement
    from profiler.data.workload import Workload as Workload
    from profiler.errors import LatentmeterError as LatentmeterError
    from profiler.errors import ModelError as ModelError
    from profiler.errors import UserError as UserError
    from profiler.estimation.calls import estimate_call as estimate_call
    from profiler.estimation.calls import generate as generate
    from profiler.evidence.coverage import coverage as coverage
    from profiler.evidence.explain import explain as explain
    from profiler.measurement.doctor import doctor as doctor
    from profiler.models.catalog import catalog as catalog
    from profiler.models.find import find_model as find_model
    from profiler.search.call import fit as fit
    from profiler.sweeps.publish import publish as publish

# Where each public name stands.
_NAMES = {
    "api": ("accuracy", "compare", "comparisons", "estimate", "hotspots", "make_recording", "measure", "run"),
    "comparison.case": ("to_frame",),
    "data.latent": ("estimate_video_latent_memory",),
    "data.workload": ("MemoryOptions", "Placement", "Workload"),
    "estimation.calls": ("estimate_call", "generate"),
    "errors": ("LatentmeterError", "ModelError", "UserError"),
    "evidence.coverage": ("coverage",),
    "evidence.explain": ("explain",),
    "measurement.doctor": ("doctor",),
    "models.catalog": ("catalog",),
    "models.find": ("find_model",),
    "search.call": ("fit",),
    "sweeps.publish": ("publish",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOMES)]

if not TYPE_CHECKING:  # else any name at all would pass as one of this package

    def __getattr__(name: str) -> object:
        """The public name `name`, kept for the next time. Raises AttributeError for any other."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return found

    def __dir__() -> list[str]:
        """The public names, for whoever completes them at a prompt."""
        return __all__
