"""The house stays easy to see: imports go down, rooms stay small, every room says what it knows."""

import ast
from pathlib import Path

import pytest

import fedlens

ROOT = Path(fedlens.__file__).parent

# Floors from the ground up. A room may import from its own floor's earlier rooms and from every floor below.
FLOORS = [
    ["_version", "errors", "seeds"],
    ["settings", "own", "lines", "short", "shared", "tree"],
    ["data", "partition", "models"],
    ["local"],
    ["server", "methods"],
    ["engine"],
    ["runs"],
    ["diagnosis"],
    ["report"],
    ["front"],
    ["cli"],
]
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Rooms of one floor that must not know each other, and what a room must never import from outside.
FORBIDDEN = {
    "partition": {"torch", "PIL"},
    "report": {"torch"},
    "methods": {"torch.nn.modules", "torch.optim", "torch.utils", "numpy"},
    "models": {"torchvision", "timm"},
    "data": {"torchvision"},
}
FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node.lineno, node.module))
            if node.module == "fedlens":
                found += [(node.lineno, f"fedlens.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return  # the front door names every room
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "fedlens" and len(parts) > 1 and parts[1] != room:
            assert parts[1] in HEIGHT, f"{path}:{line}: {parts[1]} stands on no floor"
            assert HEIGHT[parts[1]] < HEIGHT[room], f"{path}:{line}: {room} imports {name}, which is not below it"
        for outside in FORBIDDEN.get(room, ()):
            assert name != outside and not name.startswith(outside + "."), f"{path}:{line}: {room} imports {name}"


def test_every_room_stands_on_a_floor() -> None:
    rooms = {room_of(path) for path in FILES} - {"__init__", "recipes"}
    assert rooms == set(HEIGHT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300, f"{path} has more than 300 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= 50, f"{path}:{node.lineno}: {node.name} has {length} lines"


@pytest.mark.parametrize(
    "room", sorted(path.parent for path in ROOT.glob("**/__init__.py"))[1:], ids=lambda path: path.name
)
def test_a_room_says_what_it_knows(room: Path) -> None:
    words = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    for heading in ("Knows:", "Does not know:", "Offers:"):
        assert heading in words, f"{room.name} does not say '{heading}'"
    assert len(list(room.glob("*.py"))) <= 14


def test_no_room_is_a_lumber_room() -> None:
    names = {path.stem for path in FILES}
    assert not names & {"utils", "util", "helpers", "misc", "common", "manager", "base"}


def test_public_functions_and_classes_are_documented() -> None:
    missing = []
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not missing
