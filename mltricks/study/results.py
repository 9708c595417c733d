"""The results of a study: a file in the format of Hydra's Optuna sweeper, and the commands of the best trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mltricks.config.names import command
from mltricks.observers.formats import number
from mltricks.process.atomic import write_atomically
from mltricks.study.replicates import REPLICATES

NAME = "optimization_results.yaml"
SHOWN = 5
"""Maximum number of commands printed: with several goals there can be many best trials."""


def best_trials(study: Any) -> list[Any]:
    """The best trial (the first of equal ones); with several goals, all Pareto-optimal trials."""
    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if not complete:
        return []
    if len(study.directions) > 1:
        return list(study.best_trials)
    sign = 1 if study.direction.name == "MAXIMIZE" else -1
    return [max(complete, key=lambda trial: (sign * trial.value, -trial.number))]


def write_results(study: Any, folder: Path) -> None:
    """Write the results so far, even if no trial is complete."""
    best = best_trials(study)
    content: dict[str, Any] = {"name": "optuna"}
    if len(study.directions) > 1:
        content["solutions"] = [{"params": params_of(t), "values": list(t.values), **spread_of(t)} for t in best]
    elif best:
        content |= {"best_params": params_of(best[0]), "best_value": best[0].value, **spread_of(best[0])}
    else:
        content |= {"best_params": {}, "best_value": None}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_atomically(folder / NAME, lambda partial: partial.write_text(text))


def params_of(trial: Any) -> dict[str, Any]:
    """The parameters of a trial, named by their configuration keys."""
    return {name.partition("@")[0]: value for name, value in trial.params.items()}


def spread_of(trial: Any) -> dict[str, Any]:
    """The spread of a trial over its seeds; empty if it had one seed."""
    spread = trial.user_attrs.get(REPLICATES)
    return {"replicates": spread} if spread else {}


def closing_lines(study: Any, names: tuple[str, ...], space: Any) -> list[str]:
    """The lines that a study ends with: the best trials, and a command to train each."""
    best = best_trials(study)
    if not best:
        return ["no trial was completed"]
    lines = []
    if len(best) > 1:
        lines.append(f"{len(best)} trials are Pareto-optimal: no other trial is better in every objective")
    for trial in best[:SHOWN]:
        values = ", ".join(f"{name} {number(value)}" for name, value in zip(names, trial.values, strict=True))
        spread = trial.user_attrs.get(REPLICATES)
        of = f", mean of {spread['n']} seeds" if spread else ""
        lines += [f"best {values} (trial {trial.number}{of}):", f"  {command(space.job_of(trial.params))}"]
    return lines
