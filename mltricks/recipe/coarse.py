"""Step 4: a coarse search, random in log space, a few epochs each."""

from __future__ import annotations

from typing import Any

from mltricks.recipe.budget import coarse_split
from mltricks.recipe.charts import RATE, scores_over_rates
from mltricks.recipe.floor import LINEAR, Floor
from mltricks.recipe.gate import Gate
from mltricks.recipe.rates import rate_changes
from mltricks.recipe.search import Domains, Point, edges, random_points, text
from mltricks.recipe.tuner import Changes, Tuner, best_of, is_finite
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.ranges import Span

COUNTED = ("batch_size", "epochs", "max_steps", "data.", "sampler.", "scheduler.", "early_stopping.")
"""Keys that cannot be searched: the budget is counted in them, or the recipe chooses them."""
DECAY = "optim.weight_decay"


def domains_of(tuner: Tuner, rates: Span, compositions: Any) -> Domains:
    """The search space: the learning rate, the weight decay unless it was typed, and the keys of ``tune``.

    Args:
        tuner: the state of the recipe.
        rates: the span of learning rates that step 3 found.
        compositions: configurations, with the spans from the files of their options.

    Raises:
        ValueError: a key of ``tune`` does not exist, cannot be searched, or has no range in its option's file.
    """
    composed = compositions[tuple(tuner.base)]
    domains: Domains = {RATE: rates}
    typed = {override.partition("=")[0].lstrip("+") for override in tuner.base}
    if DECAY in composed.ranges and DECAY not in typed:
        domains[DECAY] = composed.range_of(DECAY)[0]
    for key in tuner.settings["tune"]:
        if key.startswith(COUNTED):
            raise ValueError(
                f"tune={key}: the recipe cannot search {key}: it changes the length of an epoch or of a trial, and "
                "the budget is counted in epochs. Type one value for it, or search it with hydra/sweeper=study."
            )
        if key not in (RATE, DECAY) and not composed.has(key):
            raise ValueError(
                f"tune={key}: there is no setting {key}. Settings that have a range: {', '.join(composed.ranges)}."
            )
        if key != RATE:
            domains[key] = composed.range_of(key)[0]
    return domains


def changes_of(tuner: Tuner, point: Point) -> Changes:
    """The overrides of a point; other learning rates keep their ratio to the first."""
    others = {key: text(value) for key, value in point.items() if key != RATE}
    return {**rate_changes(tuner, float(point[RATE])), **others}


def search_coarsely(tuner: Tuner, domains: Domains, ignorant_loss: float) -> tuple[Point, Outcome | None]:
    """Train at random points; return the best.

    Args:
        tuner: the state of the recipe.
        domains: the search space.
        ignorant_loss: loss of a constant prediction.

    Raises:
        GateFailed: no trial completed, or none is better than a constant prediction.
    """
    before = tuner.money.spent
    num, updates = coarse_split(tuner.money.share("coarse"), tuner.money)
    points = random_points(domains, num, f"{tuner.settings['search_seed']}/coarse")
    outcomes = tuner.train([changes_of(tuner, point) for point in points], updates)
    best = best_of(outcomes)
    point = points[outcomes.index(best)] if best is not None else points[0]
    epochs = updates / tuner.money.steps_per_epoch
    gate = gate_of(domains, points, outcomes, best, ignorant_loss, tuner.ground)
    gate.reason = f"{trials_of(num, epochs)}: {gate.reason}"
    tuner.close(gate, outcomes, before)
    return point, best


def gate_of(
    domains: Domains,
    points: list[Point],
    outcomes: list[Outcome],
    best: Outcome | None,
    ignorant_loss: float,
    floor: Floor,
) -> Gate:
    """The gate: it passes if the best trial beats a constant prediction."""
    ended = [outcome for outcome in outcomes if is_finite(outcome)]
    evidence: dict[str, Any] = {"trials": len(outcomes), "ended": len(ended)}
    if best is None:
        why = next((o.summary.error for o in outcomes if o.summary.error), "none has a finite objective")
        advice = "Fix the error; against divergence, type technique=clip_norm, or technique=...+clip_norm."
        return Gate(4, "coarse search", "fail", f"no trial completed: {why}", evidence, advice)
    point = points[outcomes.index(best)]
    objective = best.summary.objective
    at_edge = edges(domains, point)
    evidence |= {
        "objective": objective["name"],
        "best": objective["value"],
        "worst": min((o.summary.objective["value"] for o in ended), key=lambda v: v if is_max(best) else -v),
        "loss": best.summary.val.get("loss"),
        "ignorant_loss": ignorant_loss,
        **floor.evidence(objective),
        "at_edge": at_edge,
        **point,
    }
    shown = ", ".join(f"{key}={text(value)}" for key, value in point.items())
    reason = f"best {objective['name']} {objective['value']:.4g} with {shown}; {len(outcomes) - len(ended)} diverged."
    picture = scores_over_rates(points, outcomes, levels={LINEAR: floor.evidence(objective).get(LINEAR)})
    if why := why_nothing_is_learnt(best, ignorant_loss, floor):
        advice = "Check that every input has its own target. A larger budget_epochs may help too."
        return Gate(
            4, "coarse search", "fail", why, evidence, advice, f"{reason[:1].upper()}{reason[1:]}", chart=picture
        )
    edge = f"The best {' and '.join(at_edge)} is at the edge of its range, which the next search widens."
    return Gate(4, "coarse search", "pass", reason, evidence, more=edge if at_edge else "", chart=picture)


def why_nothing_is_learnt(best: Outcome, ignorant_loss: float, floor: Floor) -> str:
    """The reason why the best trial counts as having learnt nothing; empty if it learnt something."""
    loss = best.summary.val.get("loss")
    if not floor.is_beaten_by(best.summary):
        found = best.summary.objective
        said = f"the best {found['name']}, {found['value']:.4g}, is no better than a constant prediction."
        return f"{said} {floor.say(found)}"
    if loss is not None and not loss < ignorant_loss and not floor.constant:
        return (
            f"the loss of the best, {loss:.4g}, is no better than that of a constant prediction, {ignorant_loss:.4g}."
        )
    return ""


def trials_of(num: int, epochs: float) -> str:
    """The number of trials and their length.

    >>> trials_of(15, 1.0), trials_of(1, 0.5)
    ('15 trials of 1 epoch', '1 trial of 0.5 epochs')
    """
    return f"{num} trial{'s' if num != 1 else ''} of {epochs:.3g} epoch{'s' if epochs != 1 else ''}"


def is_max(outcome: Outcome) -> bool:
    """Whether a higher objective is better."""
    return outcome.summary.objective.get("direction") == "maximize"
