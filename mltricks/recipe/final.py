"""Step 8: the final run, with a schedule, for the rest of the budget."""

from __future__ import annotations

import math
from typing import Any

from mltricks.recipe.coarse import changes_of
from mltricks.recipe.curves import fit
from mltricks.recipe.floor import Floor
from mltricks.recipe.gate import Gate
from mltricks.recipe.reading import curves_of, losses_over_epochs
from mltricks.recipe.refine import Tried
from mltricks.recipe.tuner import Changes, Tuner, better, constant, is_finite
from mltricks.sweep.outcome import Outcome

CONSTANT = "mltricks.schedules.constant.Constant"


def run_final(tuner: Tuner, best: Tried, updates: int) -> tuple[Outcome, Changes]:
    """Train the best point to the end; return the better of that run and its trial, with the overrides.

    Raises:
        GateFailed: the run did not complete.
    """
    before = tuner.money.spent
    point, epoch = changes_of(tuner, best.point), tuner.money.steps_per_epoch
    length = tuner.money.left - tuner.money.left % epoch or tuner.money.left
    changes = {**schedule(tuner.cfg, tuner.settings), **point}
    outcome = tuner.final(changes, length)
    named = f"scheduler={changes['scheduler']}" if "scheduler" in changes else "the configured schedule"
    done = f"{length / epoch:.3g} epochs with {named}"
    if not is_finite(outcome):
        advice = "Type a lower optim.lr, or technique=clip_norm."
        error = outcome.summary.error or outcome.summary.status
        tuner.close(Gate(8, "final run", "fail", f"{done}: {error}", {}, advice), [outcome], before)
        return best.outcome, {**constant(), **tuner.length(updates), **point}
    wins = not better(best.outcome, outcome)
    tuner.close(gate_of(tuner.ground, done, outcome, best.outcome, wins), [outcome], before)
    if wins:
        return outcome, {**changes, **tuner.length(length)}
    return best.outcome, {**constant(), **tuner.length(updates), **point}


def gate_of(floor: Floor, done: str, outcome: Outcome, trial: Outcome, wins: bool) -> Gate:
    """The gate: it passes if the kept result beats a constant prediction.

    Args:
        floor: scores of trivial predictors.
        done: the length and the schedule of the run.
        outcome: of the run, completed.
        trial: the best trial at a constant rate.
        wins: whether the run is at least as good, and is kept.
    """
    old, made, test = trial.summary.objective, outcome.summary.objective, outcome.summary.test
    tested = ", ".join(f"{name} {value:.4f}" for name, value in test.items())
    reason = f"{done}: {made['name']} {made['value']:.4g} ({old['value']:.4g} without decay), test {tested}."
    kept = (outcome if wins else trial).summary
    curves = curves_of(outcome.folder / "metrics.jsonl", floor.constant.get("loss", math.inf))
    advice = [] if wins else [f"Trial {trial.num} is better and is kept: a larger budget_epochs would help."]
    if kept.val and floor.is_linear_enough(kept):
        advice.append("A linear model does as well, at a fraction of the cost.")
    advice += [f"{f.name.capitalize()}: {f.evidence[:1].lower()}{f.evidence[1:]} {f.advice}" for f in fit(curves)]
    verdict = "pass"
    if not floor.is_beaten_by(kept):
        verdict = "fail"
        advice = ["The best result is no better than a constant prediction: check the data and their targets."]
    evidence = {"best": made["value"], "without_decay": old["value"], "test": test, **floor.evidence(made)}
    chart = losses_over_epochs(curves)
    return Gate(8, "final run", verdict, reason, evidence, " ".join(advice), floor.say(made), chart=chart)


def schedule(cfg: dict[str, Any], settings: dict[str, Any]) -> Changes:
    """The schedule of the final run; empty if one is configured already."""
    node = cfg["scheduler"]
    if node.get("_target_") != CONSTANT or node.get("warmup_frac"):
        return {}
    if settings["schedule"] == "onecycle":
        return {"scheduler": "onecycle"}
    return {"scheduler": settings["schedule"], "scheduler.warmup_frac": f"{settings['warmup_frac']:g}"}
