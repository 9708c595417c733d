"""A power of the share of the run that is left.

Source: Liu, Rabinovich, Berg, "ParseNet: Looking Wider to See Better", 2015, arXiv:1506.04579, the "poly" policy of
Caffe, with power 0.9 in DeepLab (Chen et al., 2017, arXiv:1606.00915, section 4.1); the form and the default power of
``torch.optim.lr_scheduler.PolynomialLR``.
"""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.config.values import NonNegative, Positive
from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class Polynomial(Schedule):
    """final + (1 - final) (1 - progress)^power.

    Args:
        power: exponent, > 0; 1 is a straight line.
        final: factor at the end, >= 0.
    """

    power: Positive
    final: NonNegative

    def factor(self, progress: float) -> float:
        return self.final + (1.0 - self.final) * max(0.0, 1.0 - progress) ** self.power
