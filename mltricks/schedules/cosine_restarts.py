"""Half a cosine from 1 to a final factor, again and again, each cycle longer than the one before.

Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, arXiv:1608.03983,
equation 5; the form of ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``.
Deviation: the number of cycles is given instead of the length of the first, so that the last cycle always ends with
the run. Torch's ``T_0`` is the run divided by 1 + growth + ... + growth^(cycles - 1), and ``T_mult`` is ``growth``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from mltricks.config.values import Count, NonNegative, Range
from mltricks.schedules.base import ROUNDING, Schedule


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """final + (1 - final) (1 + cos(pi q)) / 2, where q goes from 0 to 1 in every cycle.

    Args:
        cycles: number of cycles in the run, >= 1; 1 is ``cosine``.
        growth: length of a cycle over that of the one before, >= 1.
        final: factor at the end of every cycle, >= 0.
    """

    cycles: Count
    growth: Annotated[float, Range(1.0)]
    final: NonNegative

    def factor(self, progress: float) -> float:
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * self.within(progress)))

    def within(self, progress: float) -> float:
        """The share of the present cycle that is done, in [0, 1]."""
        length = 1.0 / math.fsum(self.growth**k for k in range(self.cycles))
        begin = 0.0
        for _ in range(self.cycles - 1):
            if progress < begin + length - ROUNDING:
                break
            begin, length = begin + length, length * self.growth
        return min(max(0.0, (progress - begin) / length), 1.0)
