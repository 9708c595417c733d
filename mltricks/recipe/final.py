"""Step 8: the final run, with a schedule, for the rest of the budget."""

from __future__ import annotations

from typing import Any

from mltricks.recipe.coarse import changes_of
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
    wins = (
        better(outcome, best.outcome)
        or outcome.summary.objective.get("value") == best.outcome.summary.objective["value"]
    )
    old, made = best.outcome.summary.objective, outcome.summary.objective
    named = f"scheduler={changes['scheduler']}" if "scheduler" in changes else "the configured schedule"
    reason = f"{length / epoch:.3g} epochs with {named}: "
    if not is_finite(outcome):
        advice = "Type a lower optim.lr, or technique=clip_norm."
        error = outcome.summary.error or outcome.summary.status
        tuner.close(Gate(8, "final run", "fail", f"{reason}{error}", {}, advice), [outcome], before)
        return best.outcome, {**constant(), **tuner.length(updates), **point}
    tested = ", ".join(f"{name} {value:.4f}" for name, value in outcome.summary.test.items())
    reason += f"{made['name']} {made['value']:.4g} ({old['value']:.4g} without decay), test {tested}."
    advice = "" if wins else f"Trial {best.outcome.num} is better and is kept: a larger budget_epochs would help."
    evidence: dict[str, Any] = {"best": made["value"], "without_decay": old["value"], "test": outcome.summary.test}
    evidence |= tuner.ground.evidence(made)
    kept = outcome if wins else best.outcome
    verdict = "pass" if tuner.ground.is_beaten_by(kept.summary) else "fail"
    if kept.summary.val and tuner.ground.is_linear_enough(kept.summary):
        advice = f"{advice} A linear model does as well, at a fraction of the cost.".strip()
    if verdict == "fail":
        advice = "The best result is no better than a constant prediction: check the data and their targets."
    picture = losses_over_epochs(curves_of(outcome.folder / "metrics.jsonl", 1.0))
    gate = Gate(8, "final run", verdict, reason, evidence, advice, tuner.ground.say(made), chart=picture)
    tuner.close(gate, [outcome], before)
    if wins:
        return outcome, {**changes, **tuner.length(length)}
    return best.outcome, {**constant(), **tuner.length(updates), **point}


def schedule(cfg: dict[str, Any], settings: dict[str, Any]) -> Changes:
    """The schedule of the final run; empty if one is configured already."""
    node = cfg["scheduler"]
    if node.get("_target_") != CONSTANT or node.get("warmup_frac"):
        return {}
    if settings["schedule"] == "onecycle":
        return {"scheduler": "onecycle"}
    return {"scheduler": settings["schedule"], "scheduler.warmup_frac": f"{settings['warmup_frac']:g}"}
