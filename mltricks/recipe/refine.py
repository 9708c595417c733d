"""Step 5: a refined search around the best point, with longer trials at a constant learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mltricks.recipe.budget import refine_split
from mltricks.recipe.charts import scores_over_rates
from mltricks.recipe.coarse import changes_of, trials_of
from mltricks.recipe.floor import LINEAR
from mltricks.recipe.gate import Gate
from mltricks.recipe.search import Domains, Point, edges, near, text, widened
from mltricks.recipe.tuner import Tuner, best_of, is_finite
from mltricks.sweep.outcome import Outcome


@dataclass
class Tried:
    """A trial of full length: its point and its outcome."""

    point: Point
    outcome: Outcome


def refine(tuner: Tuner, domains: Domains, centre: Point) -> tuple[Tried | None, Domains, int]:
    """Train around the best point of the coarse search; return the best trial, the domains, and the updates per trial.

    Raises:
        GateFailed: no trial completed.
    """
    before = tuner.money.spent
    num, updates = refine_split(tuner.money.share("refine"), tuner.money)
    domains = widened(domains, edges(domains, centre))
    points = near(domains, centre, num, f"{tuner.settings['search_seed']}/refine")
    outcomes = tuner.train([changes_of(tuner, point) for point in points], updates)
    best = best_of(outcomes)
    epochs = updates / tuner.money.steps_per_epoch
    evidence: dict[str, Any] = {"trials": num, "ended": sum(map(is_finite, outcomes)), "epochs_each": epochs}
    if best is None:
        reason = f"none of the {trials_of(num, epochs)} completed."
        advice = (
            "The best rate of a short search is too high for a long run: type technique=clip_norm, or "
            "technique=...+clip_norm."
        )
        tuner.close(Gate(5, "refined search", "fail", reason, evidence, advice), outcomes, before)
        return None, domains, updates
    trial = Tried(points[outcomes.index(best)], best)
    value, name = best.summary.objective["value"], best.summary.objective["name"]
    shown = ", ".join(f"{key}={text(v)}" for key, v in trial.point.items())
    reason = f"{trials_of(num, epochs)} without decay: best {name} {value:.4g} with {shown}."
    evidence |= {"objective": name, "best": value, **trial.point}
    picture = scores_over_rates(
        points, outcomes, levels={LINEAR: tuner.ground.evidence(best.summary.objective).get(LINEAR)}
    )
    gate = Gate(5, "refined search", "pass", reason, evidence, advice_of(epochs, domains, trial.point), chart=picture)
    tuner.close(gate, outcomes, before)
    return trial, domains, updates


def advice_of(epochs: float, domains: Domains, best: Point) -> str:
    """What to do if the trials were short, or the best of them is at the edge of the search space."""
    short = [] if epochs >= 10 else ["Trials should have 10 to 20 epochs: a larger budget_epochs affords them."]
    at_edge = " and ".join(edges(domains, best))
    return " ".join([*short, *([f"The best {at_edge} is at the edge of the range searched."] if at_edge else [])])
