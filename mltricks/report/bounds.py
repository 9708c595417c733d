"""The range of a setting, read from the source of the class that receives it, without importing the class or torch."""

from __future__ import annotations

import ast
import functools
import typing
from pathlib import Path
from typing import Any

from mltricks.config import values
from mltricks.config.settings import HINTS
from mltricks.config.values import Range, kinds_and_range

PACKAGE = Path(__file__).parents[1]


def bounds_of(key: str, config: Any) -> tuple[Range | None, bool | None]:
    """The range that a setting's type allows, and whether it is an integer; ``None`` where the type does not say.

    Args:
        key: as ``optim.lr``.
        config: the configuration of a job; its nodes name their classes.
    """
    group, _, field = key.rpartition(".")
    node = config
    for part in group.split(".") if group else []:
        node = node.get(part) if isinstance(node, dict) else None
    target = node.get("_target_") if group and isinstance(node, dict) else None
    hint = hint_in_source(str(target), field) if target else HINTS.get(key)
    if hint is None:
        return None, None
    kinds, bounds = kinds_and_range(hint)
    return bounds, int in kinds and float not in kinds


@functools.cache
def hint_in_source(target: str, field: str) -> Any:
    """The annotation of a field of one of our classes or its bases; ``None`` if it names types from elsewhere."""
    module, _, name = target.rpartition(".")
    first, *path = module.split(".")
    file = PACKAGE.joinpath(*path).with_suffix(".py")
    if first != "mltricks" or not path or not file.is_file():
        return None
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    for node in found.body if found else []:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == field:
            return evaluated(ast.unparse(node.annotation))
    homes = {
        a.asname or a.name: f"{n.module}.{a.name}" for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names
    }
    bases = [base.id for base in found.bases if isinstance(base, ast.Name)] if found else []
    hints = (hint_in_source(homes.get(base, f"{module}.{base}"), field) for base in bases)
    return next((hint for hint in hints if hint is not None), None)


def evaluated(annotation: str) -> Any:
    """An annotation as a type; ``None`` if it has names from elsewhere, which carry no range."""
    try:
        return eval(annotation, {**vars(typing), **vars(values)})
    except (NameError, TypeError, AttributeError):
        return None
