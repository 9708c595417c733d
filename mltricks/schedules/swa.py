"""A constant rate, a linear fall, and a constant high rate in the tail, along which weights are averaged.

Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018, arXiv:1803.05407;
``schedule`` in https://github.com/timgaripov/swa, which falls between 50 % and 90 % of the part before the tail.
"""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.config.values import NonNegative, Probability
from mltricks.schedules.base import ROUNDING, Schedule

FLAT, LOW = 0.5, 0.9
"""Shares of the part before the tail at which the fall begins and ends."""


@dataclass(frozen=True)
class Swa(Schedule):
    """1; from half of start_frac on linearly to ``tail``, reached at 0.9 start_frac; then ``tail``.

    Args:
        start_frac: share of the run before the tail, in [0, 1].
        tail: factor in the tail, >= 0.
    """

    start_frac: Probability
    tail: NonNegative

    def factor(self, progress: float) -> float:
        begin, end = FLAT * self.start_frac, LOW * self.start_frac
        if progress <= begin - ROUNDING:
            return 1.0
        if progress >= end - ROUNDING:
            return self.tail
        return 1.0 - (1.0 - self.tail) * (progress - begin) / (end - begin)
