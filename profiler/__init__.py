"""latentmeter: how much GPU memory a latent diffusion model needs, estimated, measured and compared."""

__version__ = "0.1.0"

# Four modules share their names with the verbs below. Python binds a module to its package when it is first imported, so
# they are imported here, before the verbs take their names for good.
import profiler.compare
import profiler.estimate
import profiler.measure
import profiler.run  # noqa: F401
from profiler.api import compare, compare_runs, estimate, explain, measure, run, to_frame
from profiler.latent import estimate_video_latent_memory
from profiler.workload import MemoryOptions, Workload

__all__ = [
    "MemoryOptions",
    "Workload",
    "__version__",
    "compare",
    "compare_runs",
    "estimate",
    "estimate_video_latent_memory",
    "explain",
    "measure",
    "run",
    "to_frame",
]
