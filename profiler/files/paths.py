"""Where the shipped configuration lies: inside the installed package, or beside it in a source checkout."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"


def cache_folder() -> Path:
    """Where this package keeps what it may lose."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "latentmeter"
