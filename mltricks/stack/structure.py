"""What the trials of a stack share, and the floats in which they may differ, from their configurations."""

from __future__ import annotations

import functools
from typing import Any

from mltricks.config.create import locate
from mltricks.config.values import float_fields


def structure(cfg: dict[str, Any]) -> dict[str, Any]:
    """The settings that the trials of a stack must share, by dotted key.

    >>> structure({"seed": 1, "epochs": 2, "scheduler": {"final_factor": 0.1}})
    {'epochs': 2}
    """
    free = own_floats(cfg)
    return {key: value for key, value in flattened(cfg).items() if key != "seed" and key not in free}


def own_floats(cfg: dict[str, Any]) -> dict[str, float]:
    """The floats that may differ between the trials of a stack, by dotted key; includes integers typed as float.

    They are the floats of the initialisation and the schedules, and the inputs of the step: the fields of optimiser and
    techniques typed ``float``. Everything else is built once for the whole stack.

    >>> own_floats({"scheduler": {"final_factor": 0.1}, "model": {"scale": 0.5}})
    {'scheduler.final_factor': 0.1}
    """
    allow = tuple(cfg.get("allow_modules", ()))
    owners: dict[str, Any] = {name: cfg.get(name) for name in ("scheduler", "init", "optim")}
    owners |= {f"technique.{name}": node for name, node in cfg.get("technique", {}).items()}
    found: dict[str, float] = {}
    for owner, node in owners.items():
        for name, value in flattened(node).items() if isinstance(node, dict) else ():
            if isinstance(value, int | float) and not isinstance(value, bool):
                field, _, point = name.partition(".")
                fed = field in _names_of_floats(str(node.get("_target_", "")), owner, allow)
                free = fed and (point in ("", "start", "end") or isinstance(value, float))
                if free or (owner in ("scheduler", "init") and isinstance(value, float)):
                    found[f"{owner}.{name}"] = float(value)
    return found


@functools.cache
def _names_of_floats(target: str, key: str, allow: tuple[str, ...]) -> frozenset[str]:
    """The float settings of the class at a key; none if the class is not found, an error that ``build`` reports."""
    try:
        return frozenset(float_fields(locate(target, key, allow)))
    except ValueError:
        return frozenset()


def flattened(cfg: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a configuration to dotted keys.

    >>> flattened({"optim": {"lr": 0.1}})
    {'optim.lr': 0.1}
    """
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
