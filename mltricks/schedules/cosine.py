"""Half a cosine from 1 to a final factor.

Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, arXiv:1608.03983,
equation 5, without restarts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltricks.config.values import NonNegative
from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class Cosine(Schedule):
    """final + (1 - final) (1 + cos(pi progress)) / 2.

    Args:
        final: factor at the end, >= 0.
    """

    final: NonNegative

    def factor(self, progress: float) -> float:
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))
