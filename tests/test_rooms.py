"""The rooms of the package: a room uses only rooms above it on the map, and there are no circular imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mltricks"
MAP = PACKAGE.parent / "docs" / "architecture.md"
TABLE = MAP.read_text().partition("| room |")[2].partition("\n\n")[0]
ROOMS = re.findall(r"^\| `(\w+)` \|", TABLE, re.MULTILINE)
"""Names of the rooms, from the top of the map to the bottom."""


def module_name(path: Path) -> str:
    """The module of a file: ``config/create.py`` is ``config.create``, and a package has the name of its folder."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
LOOSE = {"__init__", "__main__"}
"""The package itself and the command: they may use all rooms."""


def imports(path: Path) -> Iterator[str]:
    """The modules of this package that a file imports anywhere, except imports only for type checking."""
    tree = ast.parse(path.read_text())
    for_types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for block in for_types for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "mltricks":
            home = node.module.removeprefix("mltricks").lstrip(".")
            for alias in node.names:
                inner = f"{home}.{alias.name}".lstrip(".")
                yield inner if inner in MODULES else home
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("mltricks.") for a in node.names if a.name.startswith("mltricks."))


def test_the_map_names_every_room_once() -> None:
    there = {name.partition(".")[0] for name in MODULES} - LOOSE
    assert len(ROOMS) == len(set(ROOMS))
    assert set(ROOMS) == there


def test_no_room_uses_one_below_it() -> None:
    rank = {room: i for i, room in enumerate(ROOMS)}
    backwards = [
        f"{name} -> {other}"
        for name, path in MODULES.items()
        if name not in LOOSE
        for other in imports(path)
        if other and rank.get(other.partition(".")[0], len(ROOMS)) > rank[name.partition(".")[0]]
    ]
    assert not backwards


def test_there_are_no_circular_imports() -> None:
    graph = {name: set(imports(path)) - {"", name} for name, path in MODULES.items()}
    while free := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in free:
            del graph[name]
    assert not graph, "the remaining modules import each other"
