"""Multiply by a constant at given shares of the run.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016, arXiv:1512.03385, section 4.2 (a
tenth after a half and after three quarters of the run); the form of ``torch.optim.lr_scheduler.MultiStepLR``, with its
milestones given as shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mltricks.config.values import Positive, Probability
from mltricks.schedules.base import ROUNDING, Schedule


@dataclass(frozen=True)
class Multistep(Schedule):
    """gamma^(number of milestones that have been passed).

    Args:
        milestones: shares of the run after the warm-up, in [0, 1].
        gamma: multiplier at each milestone, > 0.

    Raises:
        ValueError: there is no milestone.
    """

    milestones: Sequence[Probability]
    gamma: Positive

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.milestones:
            raise ValueError(
                "scheduler.milestones is empty, so the factor is constant. Type scheduler.milestones=[0.5,0.75], or "
                "scheduler=constant."
            )

    def factor(self, progress: float) -> float:
        return self.gamma ** sum(progress >= milestone - ROUNDING for milestone in self.milestones)
