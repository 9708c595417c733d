"""Configurations that an earlier version saved, completed by the keys that have come since.

A new key's default leaves a run as it was without the key; so an old run can be resumed, loaded and evaluated again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from mltricks.config.options import conf_dir
from mltricks.config.settings import read, top_level

NEWER = ("name", "tags", "notes", "metric", "stages")
"""Top-level keys that configurations of earlier versions lack."""

FORMER = {"mltricks.techniques.fixmatch.Fixmatch": {"space": "normalized"}}
"""What a class did before it had a setting, where the default of that setting is something else."""


def with_newer(cfg: dict[str, Any]) -> dict[str, Any]:
    """A saved configuration with the newer top-level keys, and with the newer settings of its options."""
    completed = {**cfg, **{key: deepcopy(top_level()[key]) for key in NEWER if key not in cfg}}
    for group, node in completed.items():
        if group == "technique" and isinstance(node, dict):
            completed[group] = {name: with_newer_settings(inner) for name, inner in node.items()}
        else:
            completed[group] = with_newer_settings(node)
    return completed


def with_newer_settings(node: Any) -> Any:
    """A node that names a class of ours, with all settings of the option for that class; others are returned as is."""
    if not isinstance(node, dict) or node.get("_target_") not in defaults_of_targets():
        return node
    target = node["_target_"]
    settings = {**defaults_of_targets()[target], **FORMER.get(target, {})}
    return {**node, **{k: deepcopy(v) for k, v in settings.items() if k not in node}}


@functools.cache
def defaults_of_targets() -> dict[str, dict[str, Any]]:
    """The defaults of every class that an option names; of several options for one class, those of the first."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(conf_dir().glob("*/[a-z]*.yaml")):
        for node in nodes(path):
            found.setdefault(node["_target_"], {k: v for k, v in node.items() if not asks(v)})
    return found


def nodes(path: Path) -> Iterator[dict[str, Any]]:
    """The nodes of an option that name a class of ours, with the settings that the file includes from its folder."""
    content = read(path)
    shared = [str(entry) for entry in content.pop("defaults", []) if str(entry).startswith("_") and entry != "_self_"]
    base = {key: value for name in shared for key, value in read(path.with_name(f"{name}.yaml")).items()}
    for node in (content, *content.get("technique", {}).values()):
        if isinstance(node, dict) and str(node.get("_target_", "")).startswith("mltricks."):
            yield {**(base if node is content else {}), **node}


def asks(value: Any) -> bool:
    """Whether a default is known only to Hydra: a reference, or a value that the user has to give."""
    return isinstance(value, str) and ("${" in value or value == "???")
