"""What this installation has: the shipped configuration, a folder for what may be lost, versions of other packages."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# The configuration lies inside the installed package, or beside it in a source checkout.
_PACKAGE = Path(__file__).parents[1]
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"


def cache_folder() -> Path:
    """The folder for what can be made again, such as answers and plans of before. Raises OSError where nobody has a home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # the XDG specification: an empty or relative path is as good as none
        return base / "latentmeter"
    try:
        return Path.home() / ".cache" / "latentmeter"
    except RuntimeError as error:
        raise FileNotFoundError(f"{error} HOME or XDG_CACHE_HOME says where the cache is.") from error


def installed(distribution: str) -> str | None:
    """Version of an installed distribution, without importing it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
