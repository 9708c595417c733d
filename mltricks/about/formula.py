"""What the class of an option computes: the first paragraph of its docstring, read without importing it."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
MARKS = re.compile(r"``?([^`]+)``?")


def formula_of(target: str) -> str:
    """The first paragraph of the docstring of a class or function of ours, as one line; empty without one.

    Args:
        target: its dotted path.

    >>> formula_of("mltricks.techniques.l2.L2")
    'loss + strength / 2 sum w^2: the gradient of a weight grows by strength w. Metric penalty.'
    """
    module, _, name = target.rpartition(".")
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not target.startswith("mltricks.") or not path.is_file():
        return ""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            paragraph = inspect.cleandoc(ast.get_docstring(node) or "").partition("\n\n")[0]
            return MARKS.sub(r"\1", " ".join(paragraph.split()))
    return ""
