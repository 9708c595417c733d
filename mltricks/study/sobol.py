"""Optuna's quasi-random sampler with a fixed search space; Optuna's own learns the space from complete trials.

Source: Sobol' 1967, USSR Comput. Math. Math. Phys. 7(4).
Deviation: the command gives the space, from the first trial on; a trial that repeats another consumes no new point.
"""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import QMCSampler

from mltricks.sweep.ranges import Choices, Span, Steps


class SpaceFillingSampler(QMCSampler):
    """Draws the numbers that every trial has from one Sobol' sequence, and all other parameters at random.

    Attributes:
        numbers: the distributions of those numbers by name.
    """

    numbers: dict[str, BaseDistribution]

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return self.numbers

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        if trial.system_attrs.get("fixed_params"):
            return {}
        return dict(super().sample_relative(study, trial, search_space))


def numbers_of(space: Any) -> dict[str, BaseDistribution]:
    """The distributions by name of the numbers that every trial has; leaves out those with a single value."""
    conditional = space.conditional()
    fixed = {n: d for n, d in space.domains().items() if n not in conditional and not isinstance(d, Choices)}
    found = {name: distribution_of(domain) for name, domain in fixed.items()}
    return {name: distribution for name, distribution in sorted(found.items()) if not distribution.single()}


def distribution_of(domain: Span | Steps) -> BaseDistribution:
    """The Optuna distribution from which ``domain.suggest`` draws."""
    if isinstance(domain, Span):
        if domain.whole:
            return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    low, high, step = domain.values[0], domain.values[-1], domain.step
    if isinstance(low, int):
        return IntDistribution(low, int(high), step=int(step))
    return FloatDistribution(low, high, step=float(step))
