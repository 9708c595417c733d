"""The overrides of a command that differ from the default configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mltricks.config.names import without_brackets
from mltricks.config.options import GROUPS, TECHNIQUE_GROUPS, conf_dir
from mltricks.config.settings import default_options, read, top_level

NO_CHANGE = (
    *("data", "model", "engine", "precision", "device", "threads"),
    *("name", "tags", "notes", "resume", "overwrite", "progress", "plots", "allow_modules", "job", "tracker"),
)
"""Overrides that the other lines of a header show, or that do not change what is trained."""
MISSING = object()


def changed(overrides: Sequence[str], cfg: dict[str, Any]) -> Iterator[str]:
    """The overrides that make a run differ from the default one, as they can be typed.

    Args:
        overrides: of the command.
        cfg: the resolved configuration.
    """
    chosen = {key: value for key, _, value in (text.partition("=") for text in overrides)}
    for text in overrides:
        key, _, value = text.partition("=")
        if key in NO_CHANGE or key.startswith(("hydra", "~stages.", "+stages.", "++stages.")):
            continue
        new = value if key in GROUPS else found_in(cfg, key.split("."))
        # an experiment, or a key that is added or deleted, leaves no default to compare with
        if key[:1] in "+~" or "experiment" in chosen or new != default_of(key, chosen):
            yield without_brackets(text)


def default_of(key: str, chosen: dict[str, str]) -> Any:
    """The value that a key would have without its override, or ``MISSING``.

    Args:
        key: of the configuration.
        chosen: the values of the command's overrides, by key.
    """
    first, *path = key.split(".")
    if first not in GROUPS:
        return found_in(top_level(), [first, *path])
    if not path:
        return default_options().get(first, "[]")
    techniques = first in TECHNIQUE_GROUPS
    option = path[0] if techniques else chosen.get(first, default_options().get(first))
    file = conf_dir() / first / f"{option}.yaml"
    return found_in(read(file), [first, *path] if techniques else path) if file.is_file() else MISSING


def found_in(tree: Any, path: Sequence[str]) -> Any:
    """The value at a path of nested dicts, or ``MISSING``."""
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            return MISSING
        tree = tree[name]
    return tree
