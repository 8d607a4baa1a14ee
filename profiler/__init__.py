"""latentmeter: how much GPU memory a latent diffusion model needs, estimated, measured and compared.

Each name is imported when it is first asked for: for the sake of `testing/plugin.py` pytest imports this package at its
start, in every project of an environment that has it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from profiler._version import __version__

if TYPE_CHECKING:
    from profiler.api import (
        accuracy,
        compare,
        comparisons,
        coverage,
        doctor,
        estimate,
        estimate_call,
        explain,
        generate,
        hotspots,
        make_recording,
        measure,
        publish,
        run,
    )
    from profiler.comparison.case import to_frame
    from profiler.data.latent import estimate_video_latent_memory
    from profiler.data.workload import MemoryOptions, Placement, Workload
    from profiler.models.catalog import catalog
    from profiler.models.find import find_model
    from profiler.search.call import fit

__all__ = [
    "MemoryOptions",
    "Placement",
    "Workload",
    "__version__",
    "accuracy",
    "catalog",
    "compare",
    "comparisons",
    "coverage",
    "doctor",
    "estimate",
    "estimate_call",
    "estimate_video_latent_memory",
    "explain",
    "find_model",
    "fit",
    "generate",
    "hotspots",
    "make_recording",
    "measure",
    "publish",
    "run",
    "to_frame",
]
# Where a name stands that is no verb of `api`.
_ELSEWHERE = {
    "MemoryOptions": "data.workload",
    "Placement": "data.workload",
    "Workload": "data.workload",
    "catalog": "models.catalog",
    "estimate_video_latent_memory": "data.latent",
    "find_model": "models.find",
    "fit": "search.call",
    "to_frame": "comparison.case",
}

if not TYPE_CHECKING:  # else any name at all would pass as one of this package

    def __getattr__(name: str) -> object:
        """The public name `name`, kept for the next time. Raises AttributeError for any other."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}"), name)
        return found

    def __dir__() -> list[str]:
        """The public names, for whoever completes them at a prompt."""
        return __all__
