"""Step 6: reading the curves. A pure function from curves to findings.

Source: CS231n, "Babysitting the learning process" and "Without tons of GPUs", step 6.
The thresholds are below, each with its meaning. The curves are of runs at a constant learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mltricks.probes.update_ratio import HEALTHY

LEARNT = 0.02
"""A run has learnt something if its loss is below a constant prediction's by this fraction of the latter."""
ROUGH = 0.5
"""The rate is too high if the rises in the second half of the training curve exceed this fraction of its fall."""
LINEAR = 0.35
"""The rate is too low if this fraction of the fall is in the second half: 0.5 for a line, less than 0.2 for a bend."""
FLAT_START = 0.05
"""The start is bad if less than this fraction of the fall is in the first fifth."""
STALLED = 0.01
"""A plateau: less than this fraction of the fall of the validation loss is in the last third."""
IMPROVING = 0.03
"""Still improving: at least this fraction of the fall of the validation loss is in the last third."""
RISE = 0.1
"""Overfitting: the validation loss ends above its lowest value by more than this fraction of it."""
GAP = 0.1
"""No gap: the validation loss exceeds the training loss by less than this fraction of the training loss."""
FITTED = 0.1
"""The training split is fitted if its loss is below this fraction of a constant prediction's."""
ALARMING = 3e-2
"""Update-to-weight ratio that is too high for any curve; above 1e-2 is normal for small models that learn fast."""
UNEVEN = 0.1
"""The limit in place of ``ROUGH`` if the update-to-weight ratio is above ``HEALTHY``."""


@dataclass(frozen=True)
class Curves:
    """The curves of a run.

    Attributes:
        train: mean training loss of every epoch, or of every equal part of a shorter run.
        val: validation loss at the end of every epoch.
        ignorant: loss of a constant prediction.
        ratio: median ratio of an update to its weight; ``None`` if not measured.
        diverged: whether the run diverged.
    """

    train: Sequence[float]
    val: Sequence[float]
    ignorant: float
    ratio: float | None = None
    diverged: bool = False


@dataclass(frozen=True)
class Finding:
    """A conclusion from the curves.

    Attributes:
        name: one or two words.
        evidence: the numbers behind it, in a sentence.
        advice: what to do about it.
        factors: factors by which the next round multiplies settings, by key.
        severe: whether further tuning would be wasted.
        expected: whether it is normal at a constant learning rate, and the final run deals with it.
    """

    name: str
    evidence: str
    advice: str
    factors: dict[str, float] = field(default_factory=dict)
    severe: bool = False
    expected: bool = False


def read_curves(curves: Curves) -> list[Finding]:
    """All findings, the most severe first."""
    if curves.diverged or len(curves.train) < 3:
        return [f for f in (_diverged(curves), _rate_by_ratio(curves), _too_short(curves)) if f is not None]
    found = [_learns_nothing(curves), *_rate(curves), _bad_start(curves), *fit(curves), *_end(curves)]
    return [finding for finding in found if finding is not None]


def _diverged(curves: Curves) -> Finding | None:
    if not curves.diverged:
        return None
    return Finding(
        "diverged", "The run diverged before its end.", "Divide the learning rate by 3.", {"optim.lr": 1 / 3}
    )


def _too_short(curves: Curves) -> Finding | None:
    if curves.diverged:
        return None
    return Finding("too short", f"The curve has only {len(curves.train)} points.", "Type a larger budget_epochs.")


def _learns_nothing(curves: Curves) -> Finding | None:
    if min(curves.train) < (1 - LEARNT) * curves.ignorant:
        return None
    return Finding(
        "learns nothing",
        f"The lowest training loss is {min(curves.train):.4g}; a constant prediction has {curves.ignorant:.4g}.",
        "Run job=check_init and job=overfit; check the data and their targets.",
        severe=True,
    )


def fall(values: Sequence[float]) -> float:
    """The difference between the first value and the lowest; a tiny number if the first is the lowest."""
    return max(values[0] - min(values), 1e-12)


def ups(train: Sequence[float]) -> float:
    """The rise of a curve in its second half, as a fraction of its total fall."""
    half = len(train) // 2
    pairs = zip(train[max(half - 1, 0) :], train[half:] if half else train[1:], strict=False)
    return sum(max(0.0, b - a) for a, b in pairs) / fall(train) if len(train) > 1 else 0.0


def _rate(curves: Curves) -> list[Finding | None]:
    train, half = curves.train, len(curves.train) // 2
    by_ratio = _rate_by_ratio(curves)
    rise = ups(train)
    late = (train[half] - train[-1]) / fall(train)
    fitted = train[-1] < FITTED * curves.ignorant
    if not fitted and (rise > ROUGH or train[-1] > 1.1 * train[0]):
        evidence = f"In its second half the training loss rises by {rise:.0%} of its total fall."
        return [Finding("rate too high", evidence, "Divide the learning rate by 3.", {"optim.lr": 1 / 3})]
    if by_ratio is not None:
        return [by_ratio]
    if not fitted and late > LINEAR:
        evidence = f"{late:.0%} of the fall is in the second half: the curve is nearly straight."
        return [Finding("rate too low", evidence, "Multiply the learning rate by 3.", {"optim.lr": 3.0})]
    return []


def _rate_by_ratio(curves: Curves) -> Finding | None:
    if curves.ratio is None or not math.isfinite(curves.ratio):
        return None
    evidence = f"An update changes a weight by {curves.ratio:.2g} of its size; about 1e-3 is usual."
    if curves.ratio < HEALTHY[0]:
        return Finding("rate too low", evidence, "Multiply the learning rate by 3.", {"optim.lr": 3.0})
    if curves.ratio > ALARMING or (curves.ratio > HEALTHY[1] and ups(curves.train) > UNEVEN):
        return Finding("rate too high", evidence, "Divide the learning rate by 3.", {"optim.lr": 1 / 3})
    return None


def _bad_start(curves: Curves) -> Finding | None:
    start = max(1, len(curves.train) // 5)
    made = (curves.train[0] - curves.train[start]) / fall(curves.train)
    if made > FLAT_START or len(curves.train) < 5 or min(curves.train) >= (1 - LEARNT) * curves.ignorant:
        return None
    return Finding(
        "bad start",
        f"Only {made:.0%} of the fall is in the first {start} of {len(curves.train)} epochs.",
        "Try another init, a warm-up (scheduler.warmup_frac=0.05) or normalisation.",
    )


def fit(curves: Curves) -> list[Finding]:
    """Whether the run overfits or underfits; valid for any schedule."""
    if len(curves.val) < 3:
        return []
    lowest = min(range(len(curves.val)), key=curves.val.__getitem__)
    rise = (curves.val[-1] - curves.val[lowest]) / max(curves.val[lowest], 1e-12)
    gap = (curves.val[-1] - curves.train[-1]) / max(curves.train[-1], 1e-12)
    if rise > RISE and curves.train[-1] <= curves.train[lowest]:
        evidence = (
            f"The validation loss is lowest after epoch {lowest + 1} of {len(curves.val)} and rises by {rise:.0%}."
        )
        advice = (
            "Multiply the weight decay by 3; try augment=standard, regularizer=dropout, technique=mixup or more data."
        )
        return [Finding("overfitting", evidence, advice, {"optim.weight_decay": 3.0})]
    if gap < GAP and curves.train[-1] > FITTED * curves.ignorant:
        evidence = (
            f"Training loss {curves.train[-1]:.4g}, validation loss {curves.val[-1]:.4g}: no gap, and both are high."
        )
        advice = "Divide the weight decay by 3; try a larger model, more epochs or less augmentation."
        return [Finding("underfitting", evidence, advice, {"optim.weight_decay": 1 / 3})]
    return []


def _end(curves: Curves) -> list[Finding | None]:
    if len(curves.val) < 3:
        return []
    third = len(curves.val) - max(1, len(curves.val) // 3)
    gained = (min(curves.val[:third]) - min(curves.val[third:])) / fall(curves.val)
    if gained >= IMPROVING:
        evidence = f"{gained:.0%} of the fall of the validation loss is in the last third of the epochs."
        return [
            Finding(
                "still improving",
                evidence,
                "Train longer: the final run does, and more so with a larger budget_epochs.",
                expected=True,
            )
        ]
    if gained < STALLED:
        evidence = f"{max(gained, 0.0):.0%} of the fall of the validation loss is in the last third of the epochs."
        return [Finding("plateau", evidence, "Use a schedule that decays, as the final run does.", expected=True)]
    return []
