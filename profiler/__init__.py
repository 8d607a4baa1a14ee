"""latentmeter: how much GPU memory a latent diffusion model needs, estimated, measured and compared."""

from profiler._version import __version__
from profiler.api import (
    accuracy,
    compare,
    comparisons,
    coverage,
    doctor,
    estimate,
    estimate_call,
    explain,
    fit,
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
