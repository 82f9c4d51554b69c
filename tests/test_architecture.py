"""The house holds: floors as ARCHITECTURE.md states them, small files, docstrings, no code from data.

The table of floors is read from ARCHITECTURE.md itself, so the document and the code cannot drift.
Imports are read with `ast`, inside functions too, and so are import strings ("twofold.cli.create:create").
"""

import ast
import re
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "twofold"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 450
MOST_LINES_OF = {"twofiles/run.py": 500}
FACES = {"__init__.py", "__main__.py"}  # of the package itself: they stand above all floors
NEVER_IMPORTED = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
NEVER_CALLED = {"eval", "exec"}
IMPORT_STRING = re.compile(r"twofold(\.[a-z_][a-z0-9_]*)+(:[A-Za-z_]\w*)?")


def floors() -> dict[str, int]:
    """Room ("errors.py", "text") → floor, from the table in ARCHITECTURE.md."""
    rooms = {}
    for line in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines():
        row = re.fullmatch(r"\|\s*(\d+)\s*\|([^|]*)\|.*\|", line)
        if row:
            for name in re.findall(r"`([^`]+)`", row[2]):
                rooms[name.removeprefix("twofold/").rstrip("/")] = int(row[1])
    return rooms


FLOORS = floors()


def room_of(path: Path) -> str:
    """The room a file stands in: its folder, or its own name beside the folders."""
    return path.relative_to(PACKAGE).parts[0]


def named(path: Path) -> str:
    """A file's name within the package."""
    return path.relative_to(PACKAGE).as_posix()


def is_room(name: str) -> bool:
    """Whether the package has a folder or file of this name."""
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """Every module a file names in an import or an import string, with the line, wherever it stands."""
    package = ("twofold", *path.relative_to(PACKAGE).parent.parts)
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (start, node.module) if part)
            found += [(f"{module}.{alias.name}", node.lineno) for alias in node.names]
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and IMPORT_STRING.fullmatch(node.value)
            and is_room(node.value.split(".")[1].partition(":")[0])
        ):
            found.append((node.value.partition(":")[0], node.lineno))
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "twofold"
        ):
            found.append((f"twofold.{node.attr}", node.lineno))
    return tuple(found)


def rooms_used(path: Path) -> list[tuple[str, int]]:
    """The other rooms of the package that a file imports from, with the line."""
    used = []
    for module, line in imports(path):
        parts = module.split(".")
        if parts[0] != "twofold" or len(parts) == 1 or parts[1] == "__version__":
            continue  # `import twofold` alone uses nothing yet; what it is used for counts
        room = next(
            (name for name in (parts[1], f"{parts[1]}.py") if (PACKAGE / name).exists()), "__init__.py"
        )
        if room != room_of(path):
            used.append((room, line))
    return used


def test_the_table_of_floors_names_every_room_and_no_other():
    assert len(FLOORS) >= 10
    here = {
        path.name
        for path in PACKAGE.iterdir()
        if path.name not in FACES and (path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py"))))
    }
    assert here == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_room_uses_nothing_above_it(path):
    room = room_of(path)
    if room in FACES:
        return
    top = max(FLOORS.values())
    above = [
        f"{named(path)}:{line} uses {other}"
        for other, line in rooms_used(path)
        if FLOORS.get(other, top) > FLOORS[room]
    ]
    assert not above


def test_rooms_of_one_floor_do_not_use_each_other_in_a_circle():
    graph = {room: set() for room in FLOORS}
    for path in FILES:
        if room_of(path) in FLOORS:
            graph[room_of(path)] |= {room for room, _ in rooms_used(path) if room in FLOORS}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of rooms: {' → '.join(error.args[1])}")


def test_the_rule_of_floors_would_catch_a_breach(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    for room in ("text", "training"):
        (tmp_path / room).mkdir()
    (tmp_path / "training/loop.py").write_text("x = 1\n")
    bad = tmp_path / "text/corpus.py"
    bad.write_text("def f():\n    from twofold.training import loop\n    from ..training.loop import x\n")
    assert [room for room, _ in rooms_used(bad)] == ["training", "training"]
    assert FLOORS["training"] > FLOORS["text"]


@pytest.mark.parametrize("floor", ["text", "tokens", "report"])
def test_text_tokens_and_report_know_nothing_of_torch(floor):
    named_torch = [
        f"{named(path)}:{line}"
        for path in sorted((PACKAGE / floor).rglob("*.py"))
        for module, line in imports(path)
        if module.split(".")[0] == "torch"
    ]
    assert not named_torch


def test_the_inference_file_uses_the_standard_library_and_numpy_alone():
    path = PACKAGE / "twofiles/run.py"
    if not path.exists():
        pytest.skip("there is no inference file yet")
    others = {module.split(".")[0] for module, _ in imports(path)} - set(sys.stdlib_module_names)
    assert others <= {"numpy"}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_file_can_be_read_in_one_sitting(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES_OF.get(named(path), MOST_LINES)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_modules_and_public_things_say_what_they_are_for(path):
    silent = [] if ast.get_docstring(tree(path)) else [f"{named(path)} (the module itself)"]
    silent += [
        f"{named(path)}:{node.lineno} {node.name}"
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not silent


@pytest.mark.parametrize("path", FILES, ids=named)
def test_data_is_never_run_as_code(path):
    imported = [
        f"{module}, line {line}" for module, line in imports(path) if module.split(".")[0] in NEVER_IMPORTED
    ]
    called = [
        f"{node.func.id}, line {node.lineno}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NEVER_CALLED
    ]
    loaded = [
        f"torch.load, line {node.lineno}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr == "load"
        and isinstance(node.value, ast.Name)
        and node.value.id == "torch"
    ]
    assert not imported + called + loaded
