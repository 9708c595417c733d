"""A straight line from 1 to a final factor; in the form of ``torch.optim.lr_scheduler.LinearLR``."""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.config.values import NonNegative
from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class Linear(Schedule):
    """1 + (final - 1) progress.

    Args:
        final: factor at the end, >= 0.
    """

    final: NonNegative

    def factor(self, progress: float) -> float:
        return 1.0 + (self.final - 1.0) * progress
