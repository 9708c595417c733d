"""The overrides of a stage, in the grammar of Hydra."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mltricks.config.overrides import quoted
from mltricks.config.stages import ADDED, NAME, WHOLE

WORDS = ("null", "true", "false", "nan", "inf")
"""Texts that are other values without quotes."""


def overrides_of(node: Mapping[str, Any], name: str) -> list[str]:
    """The overrides of a stage in Hydra's grammar: those listed, and in their places what the command changes.

    Where the command chooses other techniques, the settings that the list has for those of the list go with them.
    """
    tree = (node.get("changes") or {}).get(name) or {}
    changes, techniques = dict(values_in(tree)), None
    if "technique" in changes:
        chosen = changes["technique"]
        techniques = list(map(str, chosen if isinstance(chosen, list) else [chosen]))
    keys = [text.partition("=")[0] for text in node[name]]
    listed = [text for text, key in zip(node[name], keys, strict=True) if stays(key.lstrip("+"), changes, techniques)]
    added = {key.lstrip("+"): key for key in keys} | {key: f"+{key}" for key in values_added(tree)}
    return [*listed, *(f"{added.get(key, key)}={written(value)}" for key, value in changes.items())]


def values_in(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of the changes of a stage."""
    for key, value in tree.items():
        if key in (WHOLE, ADDED):
            yield prefix.removesuffix("."), value
        elif isinstance(value, Mapping):
            yield from values_in(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def values_added(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys that the changes of a stage add."""
    for key, value in tree.items():
        if key == ADDED:
            yield prefix.removesuffix(".")
        elif isinstance(value, Mapping) and key != WHOLE:
            yield from values_added(value, f"{prefix}{key}.")


def stays(key: str, changes: Mapping[str, Any], techniques: Collection[str] | None) -> bool:
    """Whether a listed override still counts.

    Args:
        key: of the override.
        changes: by key.
        techniques: those that the command chooses; ``None`` where it chooses none.
    """
    first, *rest = key.split(".")
    of_another = first == "technique" and bool(rest) and techniques is not None and rest[0] not in techniques
    return key not in changes and not of_another


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
