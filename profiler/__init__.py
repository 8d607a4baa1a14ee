"""latentmeter: how much GPU memory a latent diffusion model needs, estimated, measured and compared."""

from profiler._version import __version__
from profiler.api import compare, comparisons, estimate, estimate_call, explain, make_recording, measure, run, to_frame
from profiler.data.latent import estimate_video_latent_memory
from profiler.data.workload import MemoryOptions, Workload

__all__ = [
    "MemoryOptions",
    "Workload",
    "__version__",
    "compare",
    "comparisons",
    "estimate",
    "estimate_call",
    "estimate_video_latent_memory",
    "explain",
    "make_recording",
    "measure",
    "run",
    "to_frame",
]
