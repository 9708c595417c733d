"""The top-level keys of the configuration: their names, types and ranges."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

from mltricks.config.options import GROUPS, conf_dir
from mltricks.config.stages import check_stages
from mltricks.config.values import Count, NonNegative, Size, UnknownName, check_value, suggest

Text = str | int | float
"""A text; Hydra reads one that looks like a number as a number."""
HINTS: dict[str, Any] = {
    "name": Text | None,
    "tags": list[Text],
    "notes": Text | None,
    "seed": Size,
    "epochs": Count,
    "max_steps": Count | None,
    "batch_size": Count,
    "eval_batch_size": Count,
    "device": str,
    "threads": Count | None,
    "precision.dtype": Literal["fp32", "bf16", "fp16"],
    "precision.tf32": bool | Literal["auto"],
    "deterministic": bool,
    "resume": str | None,
    "show": bool,
    "overwrite": bool,
    "objective_metric": str | None,
    "metric": list[str | dict[str, Any]] | str,
    "allow_modules": list[str],
    "log_every": Count,
    "eval_every_epochs": Count,
    "checkpoint_every_steps": Size,
    "early_stopping.patience": Size,
    "early_stopping.min_delta": NonNegative,
    "progress": Literal["auto", "bar", "lines", "none"],
    "plots": bool | Literal["auto"],
}
"""The types of the top-level settings."""
MISSING = "is missing from the configuration. It was made by another version of mltricks, or by hand."
READ_HERE = ("precision", "tracker")
"""Groups whose options name no class, so that no constructor checks their settings."""
WITHOUT_NODE = ("augment", "regularizer", "experiment")
"""Groups whose options write to other nodes, so that the configuration has no node for them."""


def check_settings(cfg: dict[str, Any]) -> None:
    """Refuse unknown top-level keys, and values of the wrong type or out of range.

    Raises:
        UnknownName: an unknown key; the message suggests the nearest names.
        ValueError: a wrong value.
    """
    own = top_level()
    known = own.keys() | set(GROUPS)
    for key, value in cfg.items():
        if key not in known:
            raise UnknownName(f"{key} is no setting. {suggest(key, known)}")
        if key in ("job", *READ_HERE, *WITHOUT_NODE) and not (key in READ_HERE and _has_target(value)):
            _check_keys(key, value, _keys_of_group(key))
        elif key == "stages":
            check_stages(value)
        elif key not in GROUPS and isinstance(own[key], dict):
            _check_keys(key, value, set(own[key]))
    for key in own:
        if key not in cfg:
            raise ValueError(f"{key} {MISSING}")
    for name, hint in HINTS.items():
        outer, _, inner = name.partition(".")
        if inner and inner not in cfg[outer]:
            raise ValueError(f"{name} {MISSING}")
        check_value(name, cfg[outer][inner] if inner else cfg[outer], hint)


def _has_target(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("_target_"), str)


def _check_keys(key: str, node: Any, known: set[str]) -> None:
    if not isinstance(node, dict):
        keys = " or ".join(f"{key}.{name}=VALUE" for name in sorted(known))
        raise ValueError(f"{key}={node}: {key} has settings of its own. Type {keys}.")
    for name in node:
        if name not in known:
            raise UnknownName(f"{key}.{name} is no setting. {suggest(name, known)}")


@functools.cache
def top_level() -> dict[str, Any]:
    """The content of ``conf/config.yaml``, without the defaults list and Hydra's node."""
    content = read(conf_dir() / "config.yaml")
    return {key: value for key, value in content.items() if key not in ("defaults", "hydra")}


@functools.cache
def default_options() -> dict[str, str]:
    """The option of every group, Hydra's included, in the defaults list of ``conf/config.yaml``; none for a list."""
    entries = [entry for entry in read(conf_dir() / "config.yaml")["defaults"] if isinstance(entry, dict)]
    chosen = {key.removeprefix("override ").strip(): value for entry in entries for key, value in entry.items()}
    return {group: option for group, option in chosen.items() if isinstance(option, str)}


@functools.cache
def _keys_of_group(group: str) -> set[str]:
    """The settings of all options of a group without classes, which the program reads itself."""
    if group in WITHOUT_NODE:
        return set()
    contents = [read(path) for path in (conf_dir() / group).glob("*.yaml")]
    read_here = [c for c in contents if group == "job" or not _has_target(c)]
    return {key for content in read_here for key in content if key != "defaults"}


def read(path: Path) -> dict[str, Any]:
    """The content of a YAML file."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open() as file:
        return yaml.load(file, loader) or {}
