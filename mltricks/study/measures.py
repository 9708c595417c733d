"""The goals of a study: the measures of a run that it optimises, and the direction of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mltricks.config.values import suggest
from mltricks.summary import Summary

COSTS = ("seconds", "steps", "epochs")
"""Measures of a run besides its metrics; lower is better."""
DIRECTIONS = ("maximize", "minimize")
TRAIN = "mltricks.jobs.train"
"""The only built-in job that has an objective."""
EAGER = {"_target_": "mltricks.engine.Eager"}


@dataclass(frozen=True)
class Goals:
    """The measures that a study optimises, in order.

    Attributes:
        names: ``val/accuracy``, ``train/loss``, ``seconds``, ``steps``, ``epochs``.
        directions: ``maximize`` or ``minimize`` for each.
        steering: the score that chooses each run's best weights; runs report it while they train.
    """

    names: tuple[str, ...]
    directions: tuple[str, ...]
    steering: str

    def values(self, summary: Summary) -> list[float] | None:
        """Return the measures of a run; ``None`` where one of them is not a finite number.

        Raises:
            ValueError: the run did not record one of the measures.
        """
        found = [self._value(summary, name) for name in self.names]
        values = [float(v) for v in found if isinstance(v, int | float) and math.isfinite(v)]
        return values if len(values) == len(found) else None

    def _value(self, summary: Summary, name: str) -> Any:
        if name == self.steering:
            return summary.objective.get("value")
        if name in COSTS:
            return getattr(summary, name)
        split, _, metric = name.partition("/")
        measured = getattr(summary, split)
        if metric not in measured:
            known = ", ".join(f"{split}/{m}" for m in measured)
            raise ValueError(f"objectives: {name} is not measured. Measured: {known}.")
        return measured[metric]


def read_goals(settings: Mapping[str, Any], cfgs: Iterable[dict[str, Any]]) -> Goals:
    """Return the goals of a study.

    Args:
        settings: the sweeper's ``objectives`` and ``direction``.
        cfgs: configurations of jobs that together use every option of the study.

    Raises:
        ValueError: a measure does not exist, or the jobs use different scores.
    """
    scores = sorted({steering(cfg) for cfg in cfgs})
    if len(scores) > 1:
        raise ValueError(
            f"the trials have different scores: {', '.join(name for name, _ in scores)}. Type "
            "objectives=val/loss, or leave one of the options out."
            if settings["objectives"] is None
            else f"the runs choose their weights by different scores: {', '.join(name for name, _ in scores)}."
        )
    score, usual = scores[0]
    named = settings["objectives"]
    names = [score] if named is None else [named] if isinstance(named, str) else [str(name) for name in named]
    _check_names(names)
    natural = [usual if name == score else _natural(name, score) for name in names]
    return Goals(tuple(names), tuple(_directions(settings["direction"], natural)), score)


def steering(cfg: dict[str, Any]) -> tuple[str, str]:
    """Return the score that chooses a run's best weights, as ``val/accuracy``, and its direction."""
    from mltricks.config.create import create
    from mltricks.evaluate import LOWER_IS_BETTER

    objective, wanted = create(cfg["objective"], "objective", cfg["allow_modules"]), cfg["objective_metric"]
    higher = objective.higher_is_better
    if wanted is not None and (metric := wanted.rpartition("/")[2]) != objective.score:
        return f"val/{metric}", DIRECTIONS[metric in LOWER_IS_BETTER]
    return f"val/{objective.score}", DIRECTIONS[not higher]


def check_jobs_have_one(cfgs: Iterable[dict[str, Any]]) -> None:
    """Refuse built-in jobs that have no objective. A user's own job returns its objective.

    Raises:
        ValueError: a job has no objective; the message names it.
    """
    for cfg in cfgs:
        target = str(cfg["job"].get("_target_", ""))
        if target.startswith("mltricks.") and target != TRAIN:
            raise ValueError(
                f"job={target.rpartition('.')[2]} has no objective that a study could improve. Type job=train, or "
                "hydra/sweeper=grid with it."
            )


def check_measured(goals: Goals, cfg: dict[str, Any]) -> None:
    """Refuse goals that a run does not measure; loads the data only if there are metrics besides the score.

    Args:
        goals: the goals of the study.
        cfg: configuration of the first job.

    Raises:
        ValueError: a metric does not exist; the message names the nearest one and all there are.
    """
    named = [name for name in goals.names if name not in (*COSTS, goals.steering)]
    if not named or cfg["job"].get("_target_") != TRAIN:
        return
    known = measured(cfg, any(name.startswith("train/") for name in named))
    for name in named:
        if name not in known:
            raise ValueError(
                f"objectives: {name} is not measured. {suggest(name, known)} Measured: {', '.join(known)}."
            )


def measured(cfg: dict[str, Any], trained: bool) -> list[str]:
    """List the metrics of a run: evaluate one validation sample and, if ``trained``, run one step, on the CPU."""
    from mltricks.build import build
    from mltricks.evaluate import metric_names

    run = build({**cfg, "device": "cpu", "engine": EAGER})
    found = [f"val/{name}" for name in metric_names(run)]
    if not trained:
        return found
    _, metrics = run.step(run.state, next(run.source.stream(0)), run.hypers.at(0))
    return [*found, *(f"train/{name}" for name in metrics)]


def _check_names(names: Sequence[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"objectives={'+'.join(names)}: name each measure once, as objectives=val/accuracy+seconds.")
    for name in names:
        split, _, metric = name.partition("/")
        if split == "test":
            raise ValueError(
                f"objectives: {name} is a test metric; the test split is read once, at the end. Type val/{metric}."
            )
        if name not in COSTS and not (split in ("train", "val") and metric):
            raise ValueError(
                f"objectives: {name} is not a measure of a run. Type val/METRIC, train/METRIC, {', '.join(COSTS)}."
            )


def _natural(name: str, score: str) -> str:
    """Return the usual direction of a measure that is not the score."""
    from mltricks.evaluate import LOWER_IS_BETTER

    return DIRECTIONS[name in COSTS or name.rpartition("/")[2] in LOWER_IS_BETTER]


def _directions(given: Any, natural: list[str]) -> list[str]:
    asked = [given] * len(natural) if isinstance(given, str) else list(given)
    if len(asked) != len(natural) or any(d not in ("auto", *DIRECTIONS) for d in asked):
        raise ValueError(
            f"direction={given}: type auto, maximize or minimize, or a list with one of them for each objective "
            f"({len(natural)})."
        )
    return [usual if d == "auto" else d for d, usual in zip(asked, natural, strict=True)]
