"""A linear warm-up, then a decay with the inverse square root of the number of updates.

Source: Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, equation 3: lr ~ min(i^-0.5, i w^-1.5)
with w updates of warm-up. Deviation: scaled to 1 at the peak, so that the learning rate is the highest one used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """sqrt(warmup_frac / progress) after the warm-up, with progress counted from the start of the run.

    Raises:
        ValueError: there is no warm-up, whose length is the only scale of this schedule.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_frac == 0:
            raise ValueError(
                "scheduler=inverse_sqrt falls as sqrt(warmup_frac / progress), so scheduler.warmup_frac=0 leaves it "
                "no scale. Type scheduler.warmup_frac=0.04."
            )

    def factor(self, progress: float) -> float:
        return math.sqrt(self.warmup_frac / (self.warmup_frac + progress * (1.0 - self.warmup_frac)))
