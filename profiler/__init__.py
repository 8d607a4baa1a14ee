"""latentmeter: how much GPU memory a latent diffusion model needs, estimated, measured and compared.

Each name is imported when it is first asked for: for the sake of `testing/plugin.py` pytest imports this package at its
start, in every project of an environment that has it. Which names there are, and where each stands, `__init__.pyi` says.
"""

import ast
from importlib import import_module
from pathlib import Path

from profiler._version import __version__ as __version__

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOMES = {
    alias.name: node.module or "" for node in _STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """The public name `name`, kept for the next time. Raises AttributeError for any other."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    """The public names, for whoever completes them at a prompt."""
    return __all__
