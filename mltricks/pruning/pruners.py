"""Pruning rules: whether a trial is given up, from the scores that all trials of a study have reported.

Every rule is a function of the reports alone, including those of running trials. So the order of reports does not
matter, and a stack whose members all report before any is judged is halved exactly as successive halving prescribes.

**Source.** Median: Golovin et al., Google Vizier, 2017, section 3.1. ASHA: Li et al., A System for Massively Parallel
Hyperparameter Tuning, 2020, arXiv:1810.05934. Hyperband: Li et al. 2018, arXiv:1603.06560.
**Deviation.** ASHA here stops a trial that is not among the best of a rung, and does not pause and promote it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Curve = Mapping[int, float]
"""Epoch to score; higher is better, and NaN counts as minus infinity."""
Curves = Mapping[int, Curve]
"""Number of a trial to its curve."""


class Pruner(Protocol):
    """A pruning rule."""

    def due(self, number: int, epoch: int, last: int) -> bool:
        """Whether trial ``number`` reports after ``epoch``; its previous report was after ``last``, 0 for none."""

    def hopeless(self, curves: Curves, number: int) -> bool:
        """Whether trial ``number`` is given up."""


@dataclass(frozen=True)
class Median:
    """Gives up a trial whose best score so far is below the median of the other trials at the same epoch.

    Args:
        startup_trials: number of other trials that must have reported at that epoch before a trial is judged.
        min_epochs: epochs before the first report.
        interval_epochs: epochs between reports.
    """

    startup_trials: int
    min_epochs: int
    interval_epochs: int

    def due(self, number: int, epoch: int, last: int) -> bool:
        return epoch >= self.min_epochs and (last == 0 or epoch - last >= self.interval_epochs)

    def hopeless(self, curves: Curves, number: int) -> bool:
        epoch = max(curves[number])
        others = sorted(best_until(c, epoch) for n, c in curves.items() if n != number and c and max(c) >= epoch)
        if len(others) < max(1, self.startup_trials):
            return False
        middle = len(others) // 2
        median = others[middle] if len(others) % 2 else (others[middle - 1] + others[middle]) / 2
        return best_until(curves[number], epoch) < median


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving: at each rung the best ``1/eta`` of all trials that reached it continue.

    Args:
        eta: one in ``eta`` trials continues, >= 2.
        min_epochs: the first rung; the others are ``min_epochs * eta**k``.
    """

    eta: int
    min_epochs: int

    def due(self, number: int, epoch: int, last: int) -> bool:
        return last < self.rung(epoch)

    def rung(self, epoch: int) -> int:
        """The highest rung at or below an epoch; 0 if there is none.

        >>> [Asha(3, 1).rung(epoch) for epoch in (1, 2, 3, 8, 9)]
        [1, 1, 3, 3, 9]
        """
        rung = 0
        following = self.min_epochs
        while following <= epoch:
            rung, following = following, following * self.eta
        return rung

    def hopeless(self, curves: Curves, number: int) -> bool:
        rung = self.rung(max(curves[number]))
        if not rung:
            return False
        values = {n: value for n, curve in curves.items() if (value := at_rung(curve, rung)) is not None}
        ranked = sorted(values, key=lambda n: (-values[n], n))
        return ranked.index(number) >= max(1, len(ranked) // self.eta)


@dataclass(frozen=True)
class Hyperband:
    """Several successive halvings side by side (brackets), each with a later first rung than the one before.

    Args:
        eta: as for ``Asha``.
        min_epochs: first rung of the first bracket.
        max_epochs: length of a full trial.
    """

    eta: int
    min_epochs: int
    max_epochs: int

    def due(self, number: int, epoch: int, last: int) -> bool:
        return self._halving(number).due(number, epoch, last)

    def hopeless(self, curves: Curves, number: int) -> bool:
        mine = self.bracket(number)
        rivals = {n: curve for n, curve in curves.items() if self.bracket(n) == mine}
        return self._halving(number).hopeless(rivals, number)

    def bracket(self, number: int) -> int:
        """The bracket of a trial: the source's shares, spread evenly over the numbers of the trials."""
        return _brackets(self.weights(), number + 1)[number]

    def weights(self) -> tuple[int, ...]:
        """The number of trials that each bracket gets in a round.

        >>> Hyperband(3, 1, 81).weights()
        (81, 34, 15, 8, 5)
        """
        last = 0
        while self.min_epochs * self.eta ** (last + 1) <= self.max_epochs:
            last += 1
        return tuple(math.ceil((last + 1) / (s + 1) * self.eta**s) for s in range(last, -1, -1))

    def _halving(self, number: int) -> Asha:
        return Asha(self.eta, self.min_epochs * self.eta ** self.bracket(number))


@functools.cache
def _brackets(weights: tuple[int, ...], length: int) -> list[int]:
    """The brackets of the first ``length`` trials: each trial joins the bracket furthest behind its share."""
    given, found = [0] * len(weights), []
    for i in range(1, length + 1):
        behind = [weight * i / sum(weights) - got for weight, got in zip(weights, given, strict=True)]
        found.append(behind.index(max(behind)))
        given[found[-1]] += 1
    return found


@dataclass(frozen=True)
class Patient:
    """Gives up a trial that no longer improves. With an inner rule, both must agree.

    Args:
        patience: reports without improvement, >= 1.
        min_delta: smallest change that counts as an improvement, >= 0.
        inner: the other rule, if any.
    """

    patience: int
    min_delta: float
    inner: Pruner | None

    def due(self, number: int, epoch: int, last: int) -> bool:
        return True

    def hopeless(self, curves: Curves, number: int) -> bool:
        curve = curves[number]
        scores = [curve[epoch] for epoch in sorted(curve)]
        if len(scores) <= self.patience:
            return False
        before, recent = max(scores[: -self.patience]), max(scores[-self.patience :])
        if recent > before + self.min_delta:
            return False
        return self.inner is None or self.inner.hopeless(curves, number)


def best_until(curve: Curve, epoch: int) -> float:
    """The best score up to an epoch."""
    return max((score for e, score in curve.items() if e <= epoch), default=-math.inf)


def at_rung(curve: Curve, rung: int) -> float | None:
    """The score at the first report at or after a rung, since validations need not fall on the rung."""
    reached = [epoch for epoch in curve if epoch >= rung]
    return curve[min(reached)] if reached else None


def create_pruner(settings: Mapping[str, Any], epochs: int) -> Pruner | None:
    """The rule that ``pruner`` names; ``None`` if no trial is given up.

    Args:
        settings: the sweeper's: ``pruner``, and the parameters of each rule under its name.
        epochs: length of a full trial.

    Raises:
        ValueError: the rule is unknown, or one of its parameters is out of range.
    """
    name = settings["pruner"]
    if name == "none":
        return None
    if name not in ("median", "asha", "hyperband", "patient"):
        raise ValueError(f"pruner={name}: there is no such rule. Type pruner=none, median, asha, hyperband or patient.")
    numbers = dict(settings[name])
    inner = numbers.pop("around", "none")
    for key, value in numbers.items():
        low = {"eta": 2, "startup_trials": 0, "min_delta": 0}.get(key, 1)
        whole = key == "min_delta" or (isinstance(value, int) and not isinstance(value, bool))
        if not whole or not isinstance(value, int | float) or not low <= value < math.inf:
            kind = "a number" if key == "min_delta" else "an integer"
            raise ValueError(f"{name}.{key}={value} must be {kind} >= {low}. Type {name}.{key}={low + 1}.")
    if name == "patient":
        if inner == "patient":
            raise ValueError("patient.around=patient: it stands around another rule: none, median, asha or hyperband.")
        return Patient(**numbers, inner=create_pruner({**settings, "pruner": inner}, epochs))
    if name == "hyperband":
        return Hyperband(**numbers, max_epochs=epochs)
    return Median(**numbers) if name == "median" else Asha(**numbers)
