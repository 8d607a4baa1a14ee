"""Scripts that have no suffix, as modules."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent.parent / "scripts"


def load_script(name: str) -> Any:
    """The module of `scripts/<name>`, whose `main` has not run."""
    loader = SourceFileLoader(name, str(SCRIPTS / name))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode  # scripts/ is no place for a cache
    loader.exec_module(module)
    sys.dont_write_bytecode = kept
    return module
