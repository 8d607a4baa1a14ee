"""Leaves torch's compiler unloaded: no command compiles, and its import is a third of a first answer's time.

diffusers and torch ask it for two decorators, which mark what is not to be compiled. Here they do nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class Compiler(ModuleType):
    """Stands for `torch._dynamo` in a process that compiles nothing. Whoever asks for more of it gets the real one."""

    __file__ = None  # who looks for the module of a function asks every module for its file

    @staticmethod
    def allow_in_graph(function: Any) -> Any:
        """Leave it as it is."""
        return function

    @staticmethod
    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        """Leave it as it is; without one, a decorator that does."""
        return (lambda each: each) if function is None else function

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # its own modules, such as `torch._dynamo.config`, are where they are
            return [f"{path}/_dynamo" for path in sys.modules["torch"].__path__]
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(import_module(NAME), name)


def leave_compiler_out() -> None:
    """Let `import torch._dynamo` take no time in this process, unless it has been imported."""
    sys.modules.setdefault(NAME, Compiler(NAME))
