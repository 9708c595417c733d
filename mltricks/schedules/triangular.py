"""Linear up to the peak, then linear down.

Source: Page, "How to Train Your ResNet", 2018, parts 1 and 3, whose runs peak after 5 of 24 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.config.values import NonNegative, Probability
from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class Triangular(Schedule):
    """From initial to 1 at peak_frac, and on to final at the end.

    Args:
        initial: factor at the start, >= 0.
        peak_frac: share of the run before the peak, in [0, 1].
        final: factor at the end, >= 0.
    """

    initial: NonNegative
    peak_frac: Probability
    final: NonNegative

    def factor(self, progress: float) -> float:
        if progress < self.peak_frac:
            return self.initial + (1.0 - self.initial) * progress / self.peak_frac
        if self.peak_frac == 1.0:
            return 1.0
        return 1.0 + (self.final - 1.0) * (progress - self.peak_frac) / (1.0 - self.peak_frac)
