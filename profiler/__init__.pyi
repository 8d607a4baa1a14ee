"""The public names, and where each stands: what a checker of types reads, and what `__init__.py` imports by."""

from profiler._version import __version__ as __version__
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
