"""Fall by the same ratio at every update, to a final share at the end of the run.

Source: the form of ``torch.optim.lr_scheduler.ExponentialLR``, whose ``gamma`` over n updates is ``final ** (1 / n)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.config.values import Positive
from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class Exponential(Schedule):
    """final^progress.

    Args:
        final: factor at the end, > 0.
    """

    final: Positive

    def factor(self, progress: float) -> float:
        return self.final**progress
