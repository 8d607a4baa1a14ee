"""The house stands: a floor uses the floors below it, nothing goes in circles, what needs no torch imports none."""

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import profiler

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "profiler"

# From the ground up. Rooms on one floor may use one another only as far as their order within it says: left before right.
FLOORS = (
    ("errors", "_version"),
    ("data", "files"),
    ("models", "allocator", "machine"),
    ("kernels", "comparison", "stages"),
    ("trace",),
    ("estimation", "measurement"),
    ("diagnosis", "evidence", "search"),
    ("report",),
    ("sweeps",),
    ("api",),
    ("testing",),
    ("__init__",),
    ("commands",),
    ("__main__",),
)
# Who may use whom on one floor.
NEIGHBOURS = {("files", "data"), ("allocator", "machine"), ("evidence", "diagnosis"), ("search", "diagnosis")}
STRANGERS = {("estimation", "measurement"), ("measurement", "estimation")}
MOST_LINES, MOST_LINES_A_FILE, MOST_FILES_AT_THE_TOP = 27_060, 300, 5
# Rooms of which no module imports torch, whether at its top or by what it imports.
WITHOUT_TORCH = ("data", "files", "allocator", "kernels", "comparison", "commands", "report", "testing")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {module_of(path): path for path in FILES}
# Programs: they run in a process of their own, one of them with a package that only the extra `planner` brings.
PROGRAMS = {"profiler.__main__", "profiler.kernels.cudnn_server"}


def room_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of this package that `module` names in an import statement, wherever it stands in the file."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if name in MODULES} or {node.module}
    return frozenset(name for name in found if name in MODULES and name != module)


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_its_floor() -> None:
    assert {room_of(module) for module in MODULES} == {room for rooms in FLOORS for room in rooms}


@pytest.mark.parametrize("module", MODULES)
def test_no_floor_uses_one_above_it(module: str) -> None:
    mine = room_of(module)
    for other in imports(module):
        theirs = room_of(other)
        if mine == theirs:
            continue
        assert (mine, theirs) not in STRANGERS, f"{module} knows {other}"
        allowed = floor(theirs) < floor(mine) or (mine, theirs) in NEIGHBOURS
        assert allowed, f"{module} on floor {floor(mine)} uses {other} on floor {floor(theirs)}"


def test_nothing_goes_in_circles() -> None:
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in imports(module):
                visit(other, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_what_needs_no_torch_imports_none(room: str) -> None:
    modules = [module for module in MODULES if room_of(module) == room and module not in PROGRAMS]
    code = f"import sys, importlib\nfor m in {modules}: importlib.import_module(m)\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_each_public_verb_is_callable_whatever_was_imported() -> None:
    for module in MODULES.keys() - PROGRAMS:
        importlib.import_module(module)
    for name in profiler.__all__:
        assert name == "__version__" or callable(getattr(profiler, name)), name


def test_nothing_at_the_top_has_the_name_of_a_public_function() -> None:
    assert not {path.stem for path in PACKAGE.iterdir()} & set(profiler.__all__)


def test_the_house_stays_small() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert sum(lines.values()) <= MOST_LINES
    assert {str(path): n for path, n in lines.items() if n > MOST_LINES_A_FILE} == {}
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FILES_AT_THE_TOP


def test_every_text_file_is_read_and_written_as_utf_8() -> None:
    """Else what is written here cannot be read under another locale, and `report` fails on the first sign beyond ASCII."""
    unnamed = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            opens_text = node.func.attr == "open" and modes and isinstance(modes[0], str) and "b" not in modes[0]
            if (node.func.attr in ("read_text", "write_text") or opens_text) and not any(
                keyword.arg == "encoding" for keyword in node.keywords
            ):
                unnamed.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert unnamed == []
