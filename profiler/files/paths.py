"""What this installation has: the shipped configuration, a folder for what may be lost, versions of other packages."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# The configuration lies inside the installed package, or beside it in a source checkout.
_PACKAGE = Path(__file__).parents[1]
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"


def cache_folder() -> Path:
    """The folder for what can be made again, such as answers and plans of before."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "latentmeter"


def installed(distribution: str) -> str | None:
    """Version of an installed distribution, without importing it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
