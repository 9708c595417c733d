"""Intervals compared with scipy's and closed forms, and their coverage."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch

from mltricks.sweep import statistics
from mltricks.sweep.statistics import (
    mean_interval,
    paired_differences,
    paired_interval,
    paired_p_value,
    quantile,
    seeds_to_settle,
)


def test_the_examples_of_the_docstrings() -> None:
    assert doctest.testmod(statistics).failed == 0


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 30])
def test_an_interval_equals_that_of_scipy(n: int, level: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(n).normal(3, 2, n).tolist()
    found = mean_interval(values, level)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.mean == pytest.approx(np.mean(values))


def test_two_values_have_the_interval_of_cauchy() -> None:
    """With one degree of freedom Student's t is the Cauchy distribution, whose quantile is a tangent."""
    found = mean_interval([0.0, 2.0])
    assert found.half == pytest.approx(math.tan(math.pi * 0.475), rel=1e-9)
    assert quantile(2, 0.95) == pytest.approx(0.95 * math.sqrt(1 / (2 * 0.975 * 0.025)), rel=1e-9)


def test_paired_differences_cancel_the_effect_of_the_seed() -> None:
    seeds = [10.0, -20.0, 400.0, 7.0]
    found = paired_interval([s + 1 + e for s, e in zip(seeds, (0.1, -0.1, 0.1, -0.1), strict=True)], seeds)
    assert found.mean == pytest.approx(1.0)
    assert found.half == pytest.approx(quantile(3, 0.95) * math.sqrt(0.04 / 3) / 2, rel=1e-6)
    assert found.excludes_zero
    with pytest.raises(ValueError, match="must pair up"):
        paired_interval([1.0], [1.0, 2.0])


def test_one_value_has_an_infinite_interval() -> None:
    found = mean_interval([0.3])
    assert (found.mean, found.low, found.high) == (0.3, -math.inf, math.inf)
    assert not found.excludes_zero


def test_an_interval_covers_the_true_mean_at_its_level() -> None:
    samples = np.random.default_rng(0).normal(5, 3, (2000, 4))
    held = np.mean([(i := mean_interval(row.tolist())).low <= 5 <= i.high for row in samples])
    assert abs(held - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(("mean", "spread"), [(1.0, 0.1), (1.0, 1.0), (0.1, 1.0), (0.01, 1.0)])
def test_seeds_to_settle_is_the_smallest_number_that_excludes_zero(mean: float, spread: float) -> None:
    differences = [mean - spread / math.sqrt(2), mean + spread / math.sqrt(2)]  # with standard deviation `spread`
    n = seeds_to_settle(differences)
    assert n is not None
    reach = [quantile(k - 1, 0.95) * spread / math.sqrt(k) for k in range(2, n + 1)]
    assert reach[-1] < mean
    assert all(r >= mean for r in reach[:-1])


def test_for_many_seeds_the_normal_rule_of_thumb_holds() -> None:
    assert seeds_to_settle([0.01 - 1 / math.sqrt(2), 0.01 + 1 / math.sqrt(2)]) == pytest.approx(
        (1.96 / 0.01) ** 2, rel=1e-3
    )


def test_seeds_to_settle_is_none_if_no_number_suffices() -> None:
    assert seeds_to_settle([1.0, -1.0]) is None
    assert seeds_to_settle([1e-6 - 1, 1e-6 + 1]) is None
    assert seeds_to_settle([0.5, 0.5]) is None
    assert seeds_to_settle([0.0, 0.0]) is None
    with pytest.raises(ValueError, match="two seeds"):
        seeds_to_settle([1.0])


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_nan_and_infinity_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values must be finite"):
        mean_interval(values)
    with pytest.raises(ValueError, match="0 < level < 1"):
        mean_interval([1.0, 2.0], level=95)


def test_equal_differences_do_not_exclude_zero() -> None:
    found = paired_interval([0.875, 0.75, 0.5], [0.75, 0.625, 0.375])
    assert (found.low, found.high) == (0.125, 0.125)
    assert not found.excludes_zero
    assert seeds_to_settle([0.125, 0.125, 0.125]) is None


@pytest.mark.parametrize("difference", [1, 5, 7])
@pytest.mark.parametrize("size", [360, 10_000])
def test_differences_that_are_equal_but_for_rounding_prove_nothing(difference: int, size: int) -> None:
    correct = torch.arange(0, size, size // 7)
    a, b = (((correct + d).float() / size).tolist() for d in (difference, 0))
    assert len({x - y for x, y in zip(a, b, strict=True)}) > 1
    found = paired_interval(a, b)
    assert found.mean == pytest.approx(difference / size, rel=1e-3)
    assert found.low == found.high
    assert not found.excludes_zero
    differences = paired_differences(a, b)
    assert (paired_p_value(differences), seeds_to_settle(differences)) == (1.0, None)
    assert not mean_interval([0.1, 0.1, 0.1]).excludes_zero


def test_the_smallest_real_difference_of_a_metric_counts() -> None:
    a, b = [1000.0, 1000.0012, 1000.0024], [999.0, 999.0, 999.0]
    assert len(set(paired_differences(a, b))) == 3
    a, b = ((torch.tensor(correct).float() / 10_000).tolist() for correct in ([9801, 9802, 9802], [9800, 9801, 9800]))
    assert len(set(paired_differences(a, b))) > 1
