"""Constant at first, then half a cosine to a final factor.

Source: Howard and Gugger, "fastai: A Layered API for Deep Learning", 2020, arXiv:2002.04688, the schedule of
``fit_flat_cos``, which starts to fall after three quarters of the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltricks.config.values import NonNegative, Probability
from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class FlatCosine(Schedule):
    """1 up to flat_frac; then, with q from 0 to 1 over the rest, final + (1 - final) (1 + cos(pi q)) / 2.

    Args:
        flat_frac: share of the run before the fall, in [0, 1].
        final: factor at the end, >= 0.
    """

    flat_frac: Probability
    final: NonNegative

    def factor(self, progress: float) -> float:
        if progress <= self.flat_frac:
            return 1.0
        q = (progress - self.flat_frac) / (1.0 - self.flat_frac)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * q))
