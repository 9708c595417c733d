"""The overrides of a stage, in the grammar of Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mltricks.config.overrides import quoted
from mltricks.config.stages import CHOICE, NAME, leaves

WORDS = ("null", "true", "false", "nan", "inf")
"""Texts that are other values without quotes."""


def overrides_of(node: Mapping[str, Any], name: str) -> list[str]:
    """The overrides of a stage in Hydra's grammar: those listed, and in their places what the command changes."""
    tree = (node.get("changes") or {}).get(name) or {}
    changes = {key.removesuffix(f".{CHOICE}"): written(value) for key, value in leaves(tree)}
    listed = [text for text in node[name] if text.partition("=")[0].lstrip("+") not in changes]
    return [*listed, *(f"{key}={value}" for key, value in changes.items())]


def written(value: Any) -> str:
    """A value in the grammar of Hydra's overrides, which reads it back unchanged.

    >>> written([1, "a b", None, True]), written("mixup")
    ("[1,'a b',null,true]", 'mixup')
    """
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{written(inner)}' for key, inner in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if NAME.fullmatch(value) and value.lower() not in WORDS else quoted(value)
    return str(value)
