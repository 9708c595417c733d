"""The searchers of a study by name, with the options that its user set and Optuna's own defaults for the rest."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from mltricks.config.values import UnknownName, suggest
from mltricks.sweep.ranges import Choices

CLASSES = {
    "grid": "RandomSampler",  # the points are enumerated and enqueued, in order
    "random": "RandomSampler",
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "nsgaii": "NSGAIISampler",
    "qmc": "QMCSampler",
}
MANY_GOALS = ("random", "tpe", "gp", "nsgaii", "qmc")
"""Searchers that can serve several goals."""
NUMBERS_ONLY = ("cmaes", "qmc")
"""Samplers that know numbers; what else there is they draw at random."""
QUIET = {
    "gp": ("warn_independent_sampling",),
    "cmaes": ("warn_independent_sampling",),
    "qmc": ("warn_independent_sampling", "warn_asynchronous_seeding"),
}
"""Warnings that are off: ``notes`` says it once."""


def create_searcher(settings: dict[str, Any], space: Any, num_existing: int) -> Any:
    """The searcher that a study's settings name.

    Args:
        settings: ``sampler``, ``seed`` (an integer or ``None``), ``sampler_options``, ``objectives`` and ``direction``.
        space: the search space.
        num_existing: trials there are already: the seed moves on by so many, as a study that goes on would draw the
            same numbers again.

    Raises:
        ValueError: no such searcher or option, or one that cannot serve this space.
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
        warnings.simplefilter("ignore", ExperimentalWarning)  # the user chose it
        searcher = cls(**options)
    if name == "qmc":
        from mltricks.study.sobol import numbers_of

        searcher.numbers = numbers_of(space)
    return searcher


def check_name(name: str) -> None:
    """Refuse what is no searcher.

    Raises:
        UnknownName: with the nearest name.
    """
    if name not in CLASSES:
        raise UnknownName(f"hydra.sweeper.sampler={name} is no sampler. {suggest(name, CLASSES)}")


def seed_of(name: str, seed: int, num_existing: int) -> int:
    """The seed of a searcher in a study that has trials already; a QMC sequence keeps its own place in the study.

    >>> seed_of("tpe", 0, 12), seed_of("qmc", 0, 12)
    (12, 0)
    """
    return seed if name == "qmc" else seed + num_existing


def check_sampler(name: str, settings: dict[str, Any], space: Any) -> None:
    """Refuse a searcher that cannot serve a search space.

    Raises:
        ValueError: says what to type instead.
    """
    named = [given for key in ("objectives", "direction") if (given := settings.get(key)) is not None]
    num_goals = max([1, *(len(given) for given in named if not isinstance(given, str))])
    if num_goals > 1 and name not in MANY_GOALS:
        raise ValueError(
            f"hydra.sweeper.sampler={name} has one objective, and {num_goals} are named. "
            f"Type hydra.sweeper.sampler=nsgaii, or one of {', '.join(MANY_GOALS)}."
        )
    domains = space.domains()
    numbers = [n for n, d in domains.items() if not isinstance(d, Choices) and n not in space.conditional()]
    if name in NUMBERS_ONLY and len(numbers) < (2 if name == "cmaes" else 1):
        others = sorted(set(domains) - set(numbers))
        raise ValueError(
            f"hydra.sweeper.sampler={name} needs {'two numbers' if name == 'cmaes' else 'a number'} that every trial "
            f"has, and finds {', '.join(numbers) or 'none'}"
            f"{f' beside {chr(44).join(others)}' if others else ''}. Type hydra.sweeper.sampler=tpe."
        )


def notes(name: str, space: Any) -> list[str]:
    """What a searcher does not do with a search space, a line each."""
    if name not in (*NUMBERS_ONLY, "gp"):
        return []
    conditional = space.conditional()
    others = [n for n, d in space.domains().items() if n in conditional or (name != "gp" and isinstance(d, Choices))]
    return [f"{name} draws {', '.join(others)} at random: it models what every trial has, as numbers"] if others else []


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
            raise UnknownName(
                f"hydra.sweeper.sampler_options.{option} is no option of {name}. {suggest(option, known)}"
            )
