"""Statistics of repeated runs: means, confidence intervals, p-values, and the number of seeds that would settle.

Source: Student 1908, Biometrika 6(1); paired differences, Dietterich 1998, Neural Computation 10(7); Holm 1979,
Scandinavian Journal of Statistics 6(2), for many comparisons.
Deviation: intervals hold for a single comparison; ``holm`` corrects the p-values of many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

ROUNDING = 5e-7
"""Relative rounding of a difference of metrics, which are computed in float32 with an error of 6e-8 each time."""
MOST_SEEDS = 1_000_000
"""Upper bound for ``seeds_to_settle``: no experiment can run more seeds than this."""


class Interval(NamedTuple):
    """A mean and its confidence interval.

    Attributes:
        mean: the mean of the values.
        low, high: ends of the interval; -inf and inf for a single value, which has no spread.
    """

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval; false if all values are equal, as their spread is then unknown.

        A metric counts a few samples, so three equal values are a coincidence, not a spread of zero.
        """
        return self.low < self.high and (self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of independent values and Student's t-interval.

    Args:
        values: finite, at least one.
        level: confidence level, in (0, 1).

    Raises:
        ValueError: there is no value, one is not finite, or the level is out of range.

    >>> i = mean_interval([1.0, 2.0, 3.0])
    >>> round(i.mean, 3), round(i.low, 3), round(i.high, 3)
    (2.0, -0.484, 4.484)
    """
    _check(values, level)
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    half = quantile(n - 1, level) * deviation(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def paired_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of ``a[i] - b[i]`` and its t-interval; effects that a pair shares, such as its seed, cancel.

    Args:
        a, b: values of the same pairs in the same order.
        level: confidence level, in (0, 1).

    Raises:
        ValueError: the lengths differ, or as in ``mean_interval``.

    >>> paired_interval([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    if len(a) != len(b):
        raise ValueError(f"a and b must pair up, and have {len(a)} and {len(b)} values.")
    return mean_interval(paired_differences(a, b), level)


def paired_differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """The differences ``a[i] - b[i]``; those that differ by no more than the rounding of ``a`` and ``b`` become equal.

    Accuracies of one test split that differ by five samples each would otherwise have a spread of 1e-8 and prove
    anything.

    Args:
        a, b: values of the same pairs in the same order, as many of each.

    >>> found = paired_differences([0.42222222, 0.39444447], [0.40833333, 0.38055557])
    >>> round(found[0], 6), found[0] == found[1]
    (0.013889, True)
    """
    found = [x - y for x, y in zip(a, b, strict=True)]
    if found and max(found) - min(found) <= ROUNDING * max(map(abs, [*a, *b])):
        return [math.fsum(found) / len(found)] * len(found)
    return found


def paired_p_value(differences: Sequence[float]) -> float:
    """The p-value of the two-sided paired t-test: null hypothesis, the mean difference is zero.

    Args:
        differences: differences of pairs, finite. The p-value is 1 if there are fewer than two or all are equal, as
            their spread is then unknown.

    >>> round(paired_p_value([0.5, 1.5, 1.0]), 4)
    0.0742
    """
    n = len(differences)
    if n < 2 or not (spread := deviation(differences)):
        return 1.0
    from scipy.special import stdtr

    t = abs(math.fsum(differences)) / n / (spread / math.sqrt(n))
    return 2 * float(stdtr(n - 1, -t))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several tests by Holm's method, which controls the family-wise error rate.

    It multiplies the smallest of m p-values by m, the next by m - 1, and so on, and keeps the order.

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def seeds_to_settle(differences: Sequence[float], level: float = 0.95) -> int | None:
    """How many paired seeds would make the interval exclude zero, given the mean and spread so far.

    Args:
        differences: differences of pairs, finite, at least two.
        level: confidence level, in (0, 1).

    Returns:
        The total number of pairs, >= 2; ``None`` if the mean is zero, all differences are equal, or more than
        ``MOST_SEEDS`` would be needed.

    Raises:
        ValueError: fewer than two differences, or as in ``mean_interval``.

    >>> seeds_to_settle([0.5, 1.5])
    5
    """
    _check(differences, level)
    if len(differences) < 2:
        raise ValueError("one difference has no spread: run at least two seeds.")
    mean, spread = abs(math.fsum(differences) / len(differences)), deviation(differences)
    if spread == 0:
        return None
    low, high = 1, 2
    while high <= MOST_SEEDS and not _settled(mean, spread, high, level):
        low, high = high, 2 * high
    while high - low > 1:  # the interval narrows with every seed, so bisection finds the first that suffices
        middle = (low + high) // 2
        low, high = (low, middle) if _settled(mean, spread, middle, level) else (middle, high)
    return high if high <= MOST_SEEDS else None


def _settled(mean: float, spread: float, n: int, level: float) -> bool:
    return mean > quantile(n - 1, level) * spread / math.sqrt(n)


def quantile(freedom: int, level: float) -> float:
    """The half-width of a t-interval in standard errors.

    Args:
        freedom: degrees of freedom, >= 1.
        level: confidence level, in (0, 1).
    """
    from scipy.special import stdtrit  # scipy.stats would take a second to import

    return float(stdtrit(freedom, (1 + level) / 2))


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of at least two values, with n - 1 in the denominator; exactly 0 if all are equal."""
    if min(values) == max(values):
        return 0.0  # their mean may be rounded, and so differ from them
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _check(values: Sequence[float], level: float) -> None:
    if not values or not all(math.isfinite(v) for v in values):
        raise ValueError(f"values must be finite, and at least one: {list(values)}.")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must satisfy 0 < level < 1, as 0.95.")
