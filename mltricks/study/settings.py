"""The settings of a study: their checks, which run before anything is written, and the number of trials per batch."""

from __future__ import annotations

import math
import re
from typing import Any

from mltricks.pruning.pruners import create_pruner
from mltricks.study.searchers import check_name

MANY = 256
"""Trials per batch for searchers that do not learn from results."""
TIMED = 16
"""The same under a timeout: a batch that has started always runs to its end, so batches are small."""
LEARNING = {"tpe": 8, "gp": 4}
"""Trials per batch for searchers that learn: large enough to train as a stack, small enough to learn in between."""
AT_LEAST = {
    "n_trials": (int, 1),
    "timeout": (float, 0),
    "n_jobs": (int, 1),
    "seed": (int, 0),
    "replicates": (int, 1),
    "max_failures": (int, 1),
    "max_retries": (int, 0),
}
"""Type and lower bound of the numeric settings; for floats the bound is exclusive."""


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse invalid settings.

    Raises:
        ValueError: the message names the setting, its value, its range and the fix.
    """
    check_name(str(settings["sampler"]))
    for key, (kind, least) in AT_LEAST.items():
        value = settings[key]
        optional = key not in ("replicates", "max_retries", "n_jobs")
        if (value is None and optional) or (key == "n_jobs" and value == "auto"):
            continue
        right = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        if not right or not (value > 0 if kind is float else value >= least):
            what = "a number > 0" if kind is float else f"an integer >= {least}"
            raise ValueError(f"{key}={value} must be {what}. Type {key}={max(least, 1)}.")
    _check_level(settings["replicates_level"])
    if settings["resume_running"] not in ("dead", "all"):
        raise ValueError(f"resume_running={settings['resume_running']}: type dead or all.")
    if settings["n_trials"] is None and settings["timeout"] is None and settings["sampler"] != "grid":
        raise ValueError("A study needs an end: type n_trials=20, or timeout=3600 (seconds).")
    _check_names(settings)
    create_pruner(settings, 1)


def _check_level(level: Any) -> None:
    if not isinstance(level, float) or not 0 < level < 1:
        raise ValueError(f"replicates_level={level} must satisfy 0 < level < 1. Type replicates_level=0.95.")


def _check_names(settings: dict[str, Any]) -> None:
    name, storage = settings["study_name"], settings["storage"]
    if name is not None and not re.fullmatch(r"[\w][\w.+-]*", str(name)):
        raise ValueError(f"study_name={name} must be a folder name. Use letters, digits, -, _ and . only.")
    if storage is not None and name is None:
        raise ValueError(f"storage={storage} can hold many studies, so it needs a name: type study_name=NAME too.")
    if storage is not None and "://" not in str(storage):
        raise ValueError(f"storage={storage} is not a URL. Type storage=sqlite:///{storage}.")
    if storage is not None and re.search(r"://[^/@]*:[^/@]*@", str(storage)):
        raise ValueError(
            "storage contains a password, which would be written to the sweep's folders. Put it into ~/.pgpass, "
            "or your server's own password file, and type storage=...://USER@HOST/NAME."
        )


def batch_size(settings: dict[str, Any], space: Any) -> int:
    """The number of trials to ask for and launch together.

    Args:
        settings: the settings of the sweeper.
        space: the search space.
    """
    if settings["n_jobs"] != "auto":
        return int(settings["n_jobs"])
    searcher, options = settings["sampler"], settings["sampler_options"] or {}
    if searcher in LEARNING:
        return LEARNING[searcher]
    if searcher == "nsgaii":
        return int(options.get("population_size", 50))
    if searcher == "cmaes":
        return int(options.get("popsize") or 4 + math.floor(3 * math.log(max(1, len(space.domains())))))
    return TIMED if settings["timeout"] is not None else MANY
