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
"""Fraction of the loss of a constant prediction by which a loss must be below it."""
ROUGH = 0.5
"""Ups of the second half of the training curve, as a share of the whole fall: beyond it the rate is too high."""
LINEAR = 0.35
"""Share of the fall that the second half makes: a straight line makes 0.5, a curve that bends well below 0.2."""
FLAT_START = 0.05
"""Share of the fall that the first fifth makes, below which the start is bad."""
STALLED = 0.01
"""Share of the validation's whole fall that its last third makes, below which it stands still."""
IMPROVING = 0.03
"""The same, from which on it still improves."""
RISE = 0.1
"""Rise of the validation loss above its lowest, as a share of it, that is overfitting."""
GAP = 0.1
"""Distance of validation loss and training loss, as a share of the training loss, that is no gap."""
FITTED = 0.1
"""Fraction of the loss of a constant prediction below which the training split counts as fitted."""
ALARMING = 3e-2
"""Ratio that is too high whatever the curve looks like; small models that learn fast go beyond 1e-2 unharmed."""
UNEVEN = 0.1
"""Ups as for ``ROUGH``, which together with an unhealthy ratio say that the rate is too high."""


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
    """

    name: str
    evidence: str
    advice: str
    factors: dict[str, float] = field(default_factory=dict)
    severe: bool = False


def read_curves(curves: Curves) -> list[Finding]:
    """All findings, the most severe first."""
    if curves.diverged or len(curves.train) < 3:
        return [f for f in (_diverged(curves), _rate_by_ratio(curves), _too_short(curves)) if f is not None]
    found = [_learns_nothing(curves), *_rate(curves), _bad_start(curves), *_fit(curves), *_end(curves)]
    return [finding for finding in found if finding is not None]


def _diverged(curves: Curves) -> Finding | None:
    if not curves.diverged:
        return None
    return Finding("diverged", "The run broke off.", "A third of the learning rate.", {"optim.lr": 1 / 3})


def _too_short(curves: Curves) -> Finding | None:
    if curves.diverged:
        return None
    return Finding("too short", f"{len(curves.train)} points are no curve.", "A larger recipe.budget_epochs.")


def _learns_nothing(curves: Curves) -> Finding | None:
    if min(curves.train) < (1 - LEARNT) * curves.ignorant:
        return None
    return Finding(
        "learns nothing",
        f"Training loss {min(curves.train):.4g} at best, {curves.ignorant:.4g} with no knowledge.",
        "Run job=check_init and job=overfit; look at the data and their targets.",
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
        evidence = f"In its second half the training loss goes up by {rise:.0%} of all it fell."
        return [Finding("rate too high", evidence, "A third of the learning rate.", {"optim.lr": 1 / 3})]
    if by_ratio is not None:
        return [by_ratio]
    if not fitted and late > LINEAR:
        evidence = f"The second half makes {late:.0%} of the fall: a straight line."
        return [Finding("rate too low", evidence, "Three times the learning rate.", {"optim.lr": 3.0})]
    return []


def _rate_by_ratio(curves: Curves) -> Finding | None:
    if curves.ratio is None or not math.isfinite(curves.ratio):
        return None
    evidence = f"An update changes a weight by {curves.ratio:.2g} of its size, and 1e-3 is usual."
    if curves.ratio < HEALTHY[0]:
        return Finding("rate too low", evidence, "Three times the learning rate.", {"optim.lr": 3.0})
    if curves.ratio > ALARMING or (curves.ratio > HEALTHY[1] and ups(curves.train) > UNEVEN):
        return Finding("rate too high", evidence, "A third of the learning rate.", {"optim.lr": 1 / 3})
    return None


def _bad_start(curves: Curves) -> Finding | None:
    start = max(1, len(curves.train) // 5)
    made = (curves.train[0] - curves.train[start]) / fall(curves.train)
    if made > FLAT_START or len(curves.train) < 5 or min(curves.train) >= (1 - LEARNT) * curves.ignorant:
        return None
    return Finding(
        "bad start",
        f"The first {start} of {len(curves.train)} epochs make {made:.0%} of the fall.",
        "Another init, a warm-up (scheduler.warmup_frac=0.05), normalisation.",
    )


def _fit(curves: Curves) -> list[Finding | None]:
    if len(curves.val) < 3:
        return []
    lowest = min(range(len(curves.val)), key=curves.val.__getitem__)
    rise = (curves.val[-1] - curves.val[lowest]) / max(curves.val[lowest], 1e-12)
    gap = (curves.val[-1] - curves.train[-1]) / max(curves.train[-1], 1e-12)
    if rise > RISE and curves.train[-1] <= curves.train[lowest]:
        evidence = (
            f"The validation loss is lowest after epoch {lowest + 1} of {len(curves.val)} and rises by {rise:.0%}."
        )
        advice = "Three times the weight decay; augment=standard, regularizer=dropout, technique=mixup; more data."
        return [Finding("overfitting", evidence, advice, {"optim.weight_decay": 3.0})]
    if gap < GAP and curves.train[-1] > FITTED * curves.ignorant:
        evidence = (
            f"Training loss {curves.train[-1]:.4g}, validation loss {curves.val[-1]:.4g}: no gap, and not fitted."
        )
        advice = "A third of the weight decay; a larger model, more epochs, less augmentation."
        return [Finding("underfitting", evidence, advice, {"optim.weight_decay": 1 / 3})]
    return []


def _end(curves: Curves) -> list[Finding | None]:
    if len(curves.val) < 3:
        return []
    third = len(curves.val) - max(1, len(curves.val) // 3)
    gained = (min(curves.val[:third]) - min(curves.val[third:])) / fall(curves.val)
    if gained >= IMPROVING:
        evidence = f"The last third of the epochs makes {gained:.0%} of the fall of the validation loss."
        return [Finding("still improving", evidence, "More epochs: the final run is longer, or recipe.budget_epochs.")]
    if gained < STALLED:
        evidence = f"The last third of the epochs makes {max(gained, 0.0):.0%} of the fall of the validation loss."
        return [Finding("plateau", evidence, "A schedule that decays, which the final run has.")]
    return []
