"""Step 7: apply the findings to the best point, and train the new point for as many updates."""

from __future__ import annotations

from mltricks.recipe.charts import RATE, scores_over_rates, series
from mltricks.recipe.coarse import changes_of, trials_of
from mltricks.recipe.curves import Finding
from mltricks.recipe.gate import Gate
from mltricks.recipe.reading import read_trial
from mltricks.recipe.refine import Tried
from mltricks.recipe.search import Domains, Point, near, text
from mltricks.recipe.tuner import Tuner, best_of, better
from mltricks.sweep.ranges import Span

NAME = "search again"
MOST_TRIALS = 4
"""The largest number of trials in one round."""


def round_again(
    tuner: Tuner, best: Tried, findings: list[Finding], domains: Domains, updates: int, ignorant_loss: float
) -> Tried:
    """Apply the suggested changes and read the curves again, until there is nothing left to change or to spend.

    Args:
        tuner: the state of the recipe.
        best: the best trial so far.
        findings: the findings from its curves.
        domains: the search space.
        updates: updates per trial.
        ignorant_loss: loss of a constant prediction.
    """
    share = tuner.money.share("again")
    spent, number = 0, 0
    while True:
        before, number = tuner.money.spent, number + 1
        point, domains = follow(best.point, findings, domains)
        affordable = min(share - spent, tuner.money.left - updates) // max(
            updates, 1
        )  # leave the final run at least as many
        if point == best.point or affordable < 1:
            if number == 1:
                skip(tuner, point == best.point)
            return best
        points = near(domains, point, min(MOST_TRIALS, affordable), f"{tuner.settings['search_seed']}/round{number}")
        outcomes = tuner.train([changes_of(tuner, p) for p in points], updates)
        spent += len(points) * updates
        found = best_of(outcomes)
        score = "none completed" if found is None else f"{found.summary.objective['value']:.4g}"
        old = best.outcome.summary.objective["value"]
        trials = trials_of(len(points), updates / tuner.money.steps_per_epoch)
        reason = f"{trials} about {shown(point)}: {score}, {old:.4g} before"
        evidence = {"changes": dict(point), "before": old, "best": found.summary.objective["value"] if found else None}
        former = series("before", [float(best.point[RATE])], [old], points=True)
        picture = scores_over_rates(points, outcomes, former)
        if found is None or not better(found, best.outcome):
            reason = f"{reason}, so the old point is kept."
            gate = Gate(7, NAME, "pass", reason, evidence, round=number, chart=picture)
            tuner.close(gate, outcomes, before)
            return best
        best = Tried(points[outcomes.index(found)], found)
        findings, read, jobs = read_trial(tuner, best, ignorant_loss, updates)
        evidence |= read.evidence
        more = f"{read.reason[:1].upper()}{read.reason[1:]} {read.more}"
        gate = Gate(7, NAME, read.verdict, f"{reason}, so it is kept.", evidence, read.advice, more, number)
        gate.chart = read.chart
        tuner.close(gate, [*outcomes, *jobs], before)


def shown(point: Point) -> str:
    """A point as overrides."""
    return ", ".join(f"{key}={text(value)}" for key, value in point.items())


def skip(tuner: Tuner, unchanged: bool) -> None:
    """Record why there is no further search."""
    why = "the curves suggest no change" if unchanged else "the budget affords no further trial"
    gate = Gate(7, NAME, "skipped", f"{why}; the rest goes to the final run.")
    tuner.close(gate, [], tuner.money.spent)


def follow(point: Point, findings: list[Finding], domains: Domains) -> tuple[Point, Domains]:
    """The point multiplied by the factors of the findings, and the domains widened to contain it."""
    moved, opened = dict(point), dict(domains)
    for finding in findings:
        for key, factor in finding.factors.items():
            domain = domains.get(key)
            if isinstance(domain, Span) and key in moved:
                value = float(f"{float(moved[key]) * factor:.3g}")
                moved[key] = value
                opened[key] = Span(min(domain.low, value), max(domain.high, value), domain.log, domain.whole)
    return moved, opened
