"""The effect of a technique: the difference between two arms, paired over seeds, with its interval and its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from mltricks.ablation.arms import Arm, Comparison, arm_name
from mltricks.ablation.factors import shown_part
from mltricks.summary import Summary
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.statistics import Interval, holm, mean_interval, paired_differences, paired_p_value, seeds_to_settle

Results = Mapping[Arm, Mapping[int, Outcome]]
"""The outcomes of every arm, by seed."""
DONE = ("completed", "stopped_early")


@dataclass(frozen=True)
class Effect:
    """One comparison, on the test split; numbers are in units of the metric, treated minus control.

    Attributes:
        name: what is compared.
        part, rival: the part in which the arms differ, and the first value of its factor; empty as in ``Comparison``.
        treated, control: names of the arms.
        overrides: the overrides of the treated arm.
        n: number of seeds that both arms finished.
        lost: number of seeds that one or both arms did not finish.
        mean, interval: mean of the treated arm, and its interval.
        difference, difference_interval: mean paired difference, and its interval; ``None`` with fewer than two pairs.
        cost_ratio: seconds per run of the treated arm divided by those of the control; ``None`` if they were not run in
            the same way.
        verdict: ``helps``, ``hurts``, ``no evidence at n=...``, or ``too few pairs``; of this comparison alone.
        seeds_to_settle: number of pairs that would make the interval exclude zero if mean and spread stayed the same;
            ``None`` if it does already, or never would.
        p_value: two-sided p-value of the paired t-test; ``None`` with fewer than two pairs.
        p_holm, verdict_of_all: p-value and verdict, corrected for all comparisons of the ablation.
    """

    name: str
    part: str
    rival: str
    treated: str
    control: str
    overrides: list[str]
    n: int
    lost: int
    mean: float | None
    interval: tuple[float, float] | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    cost_ratio: float | None
    verdict: str
    seeds_to_settle: int | None
    p_value: float | None
    p_holm: float | None = None
    verdict_of_all: str = ""


def effect(
    compared: Comparison, overrides: list[str], results: Results, higher_is_better: bool, level: float
) -> Effect:
    """Judge one comparison.

    Args:
        compared: the two arms.
        overrides: the overrides of the treated arm.
        results: the outcomes of all arms.
        higher_is_better: direction of the metric.
        level: confidence of the intervals.
    """
    treated, control = tested(results[compared.treated]), tested(results[compared.control])
    seeds = sorted(treated.keys() & control.keys())
    lost = len(results[compared.treated].keys() | results[compared.control].keys()) - len(seeds)
    a, b = [treated[s] for s in seeds], [control[s] for s in seeds]
    differences = paired_differences(a, b)
    settle, between = None, None
    if len(seeds) > 1:
        between = mean_interval(differences, level)
        settle = None if between.excludes_zero else seeds_to_settle(differences, level)
    own = mean_interval(list(treated.values()), level) if treated else None
    return Effect(
        compared.name,
        shown_part(compared.part),
        compared.rival,
        arm_name(compared.treated),
        arm_name(compared.control),
        overrides,
        len(seeds),
        lost,
        own.mean if own else None,
        (own.low, own.high) if own and len(treated) > 1 else None,
        fmean(a) - fmean(b) if seeds else None,
        (between.low, between.high) if between else None,
        cost_ratio(results[compared.treated], results[compared.control], seeds),
        verdict(between, len(seeds), higher_is_better),
        settle,
        paired_p_value(differences) if between else None,
    )


def of_all(effects: Sequence[Effect], level: float) -> list[Effect]:
    """The effects, with p-values and verdicts corrected for all of them at once by Holm's method.

    Args:
        effects: all effects of one ablation, not yet corrected.
        level: confidence level: the probability that all simultaneous verdicts are true is at least this.
    """
    known = [e for e in effects if e.p_value is not None]
    corrected = dict(zip(map(id, known), holm([e.p_value for e in known if e.p_value is not None]), strict=True))
    found = []
    for e in effects:
        p = corrected.get(id(e))
        proven = p is None or p < 1 - level
        found.append(replace(e, p_holm=p, verdict_of_all=e.verdict if proven else f"no evidence at n={e.n}"))
    return found


def values(outcomes: Mapping[int, Outcome]) -> dict[int, float]:
    """The validation objective of every completed seed; tuning and selection use it."""
    return finite({seed: o.summary.objective.get("value") for seed, o in outcomes.items() if o.summary.status in DONE})


def tested(outcomes: Mapping[int, Outcome]) -> dict[int, float]:
    """The same metric on the test split; verdicts use it, because no epoch or setting was chosen by it."""
    return finite({seed: test_value(o.summary) for seed, o in outcomes.items() if o.summary.status in DONE})


def test_value(summary: Summary) -> float | None:
    """The objective's metric on the test split."""
    return summary.test.get(str(summary.objective.get("name", "")).rpartition("/")[2])


def finite(found: Mapping[int, float | None]) -> dict[int, float]:
    return {seed: value for seed, value in found.items() if value is not None and math.isfinite(value)}


def verdict(between: Interval | None, n: int, higher_is_better: bool) -> str:
    """The verdict that follows from an interval of differences.

    >>> found = Interval(0.015, 0.01, 0.02)
    >>> verdict(found, 5, True), verdict(found, 5, False), verdict(Interval(0.0, -0.1, 0.2), 5, True)
    ('helps', 'hurts', 'no evidence at n=5')
    """
    if between is None:
        return "too few pairs"
    if not between.excludes_zero:
        return f"no evidence at n={n}"
    return "helps" if (between.low > 0) == higher_is_better else "hurts"


def cost_ratio(treated: Mapping[int, Outcome], control: Mapping[int, Outcome], seeds: list[int]) -> float | None:
    """The ratio of mean seconds per run, if both arms were trained in stacks of one size, or both alone."""
    if not seeds:
        return None
    sides = [[arm[seed].summary for seed in seeds] for arm in (treated, control)]
    ways = {(summary.fused or {}).get("trials") for side in sides for summary in side}
    below = fmean(summary.seconds for summary in sides[1])
    return fmean(summary.seconds for summary in sides[0]) / below if len(ways) == 1 and below > 0 else None
