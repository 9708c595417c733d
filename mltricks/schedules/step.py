"""Multiply by a constant at equal shares of the run.

Source: the form of ``torch.optim.lr_scheduler.StepLR``, with its step given as a share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltricks.config.values import Fraction, Positive
from mltricks.schedules.base import ROUNDING, Schedule


@dataclass(frozen=True)
class Step(Schedule):
    """gamma^floor(progress / every_frac).

    Args:
        every_frac: share of the run between two drops, in (0, 1].
        gamma: multiplier at each drop, > 0.
    """

    every_frac: Fraction
    gamma: Positive

    def factor(self, progress: float) -> float:
        return self.gamma ** math.floor(progress / self.every_frac + ROUNDING)
