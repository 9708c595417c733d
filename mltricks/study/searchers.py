"""The searchers of a study: Optuna's samplers by name, with the user's options and Optuna's defaults."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from mltricks.config.values import UnknownName, suggest
from mltricks.sweep.ranges import Choices

CLASSES = {
    "grid": "RandomSampler",  # never draws: the queue enqueues the points in order
    "random": "RandomSampler",
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "nsgaii": "NSGAIISampler",
    "qmc": "QMCSampler",
}
MANY_GOALS = ("random", "tpe", "gp", "nsgaii", "qmc")
"""Searchers that support several goals."""
NUMBERS_ONLY = ("cmaes", "qmc")
"""Searchers that model numbers only; they draw everything else at random."""
QUIET = {
    "gp": ("warn_independent_sampling",),
    "cmaes": ("warn_independent_sampling",),
    "qmc": ("warn_independent_sampling", "warn_asynchronous_seeding"),
}
"""Optuna's warnings to switch off: ``notes`` prints the same information once."""


def create_searcher(settings: dict[str, Any], space: Any, num_existing: int) -> Any:
    """Create the searcher that a study's settings name.

    Args:
        settings: ``sampler``, ``seed`` (an integer or ``None``), ``sampler_options``, ``objectives`` and ``direction``.
        space: the search space.
        num_existing: trials that the study already has. It is added to the seed, as a resumed study would otherwise
            draw the same numbers again.

    Raises:
        ValueError: the searcher or an option does not exist, or the searcher does not support this space.
    """
    from optuna.exceptions import ExperimentalWarning

    name = str(settings["sampler"])
    check_name(name)
    check_sampler(name, settings, space)
    cls = _class_of(name)
    options = dict(settings.get("sampler_options") or {})
    _check_options(name, options, cls)
    if settings.get("seed") is not None:
        options.setdefault("seed", seed_of(name, int(settings["seed"]), num_existing))
        if name == "qmc":
            options.setdefault("scramble", True)
    for quiet in QUIET.get(name, ()):
        options.setdefault(quiet, False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # the user chose this sampler knowingly
        searcher = cls(**options)
    if name == "qmc":
        from mltricks.study.sobol import numbers_of

        searcher.numbers = numbers_of(space)
    return searcher


def check_name(name: str) -> None:
    """Refuse an unknown searcher.

    Raises:
        UnknownName: the searcher does not exist; the message suggests the nearest name.
    """
    if name not in CLASSES:
        raise UnknownName(f"study.sampler={name} is not a sampler. {suggest(name, CLASSES)}")


def seed_of(name: str, seed: int, num_existing: int) -> int:
    """The seed of a searcher in a study that already has trials. QMC keeps its seed: Optuna stores its position.

    >>> seed_of("tpe", 0, 12), seed_of("qmc", 0, 12)
    (12, 0)
    """
    return seed if name == "qmc" else seed + num_existing


def check_sampler(name: str, settings: dict[str, Any], space: Any) -> None:
    """Refuse a searcher that does not support the goals or the search space.

    Raises:
        ValueError: the message names the searcher to type instead.
    """
    named = [given for key in ("objectives", "direction") if (given := settings.get(key)) is not None]
    num_goals = max([1, *(len(given) for given in named if not isinstance(given, str))])
    if num_goals > 1 and name not in MANY_GOALS:
        raise ValueError(
            f"study.sampler={name} supports one objective, and the command names {num_goals}. "
            f"Type study.sampler=nsgaii, or one of {', '.join(MANY_GOALS)}."
        )
    domains = space.domains()
    numbers = [n for n, d in domains.items() if not isinstance(d, Choices) and n not in space.conditional()]
    if name in NUMBERS_ONLY and len(numbers) < (2 if name == "cmaes" else 1):
        others = sorted(set(domains) - set(numbers))
        raise ValueError(
            f"study.sampler={name} needs {'two numbers' if name == 'cmaes' else 'a number'} common to all "
            f"trials, and finds {', '.join(numbers) or 'none'}"
            f"{f', beside {chr(44).join(others)}' if others else ''}. Type study.sampler=tpe."
        )


def notes(name: str, space: Any) -> list[str]:
    """Notes for the user: the parameters that a searcher draws at random instead of modelling them."""
    if name not in (*NUMBERS_ONLY, "gp"):
        return []
    conditional = space.conditional()
    others = [n for n, d in space.domains().items() if n in conditional or (name != "gp" and isinstance(d, Choices))]
    return (
        [f"{name} draws {', '.join(others)} at random: it models only numbers common to all trials"] if others else []
    )


def _class_of(name: str) -> Any:
    from optuna import samplers

    if name == "qmc":
        from mltricks.study.sobol import SpaceFillingSampler

        return SpaceFillingSampler
    return getattr(samplers, CLASSES[name])


def _check_options(name: str, options: dict[str, Any], cls: Any) -> None:
    known = [option for option in inspect.signature(cls).parameters if option != "self"]
    for option in options:
        if option not in known:
            raise UnknownName(f"sampler_options.{option} is not an option of {name}. {suggest(option, known)}")
