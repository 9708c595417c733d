"""Straight lines up and down between a low factor and 1, over and over.

Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, arXiv:1506.01186, section 3; the modes of
``torch.optim.lr_scheduler.CyclicLR``.
Deviation: the number of cycles is given instead of the updates of one, so that a run ends with a whole cycle; the
decay of ``exp_range`` is given for the whole run. Torch also moves the momentum unless it is told not to, which the
paper does not: here ``cycle_momentum`` does, as in ``onecycle``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from mltricks.config.values import Count, Decay, Fraction, NonNegative, Range
from mltricks.schedules.base import ROUNDING, Schedule


@dataclass(frozen=True)
class Cyclic(Schedule):
    """low + (1 - low) scale, where scale rises from 0 to a peak and falls back to 0 in every cycle.

    Args:
        cycles: number of cycles in the run, >= 1.
        low: factor at both ends of a cycle, >= 0.
        rise_frac: share of a cycle before its peak, in (0, 1).
        mode: the peaks: ``triangular`` (all 1), ``triangular2`` (halved from cycle to cycle) or ``exp_range``.
        decay: what is left of a peak at the end of the run under ``exp_range``, in (0, 1]; 1 in the other modes.
        cycle_momentum: whether the momentum (``beta1`` of Adam and its kin) is driven too.
        momentum_low: momentum at a peak of height 1, in [0, 1).
        momentum_high: momentum at both ends of a cycle, in [0, 1).

    Raises:
        ValueError: ``decay`` has no effect in this mode, or ``exp_range`` has no decay.
    """

    cycles: Count
    low: NonNegative
    rise_frac: Annotated[float, Range(0.0, 1.0, above=True, below=True)]
    mode: Literal["triangular", "triangular2", "exp_range"]
    decay: Fraction
    cycle_momentum: bool
    momentum_low: Decay
    momentum_high: Decay

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.mode == "exp_range") != (self.decay < 1):
            raise ValueError(
                f"scheduler.decay={self.decay} with scheduler.mode={self.mode}: peaks decay in mode exp_range only, "
                "by a decay below 1. Type scheduler.mode=exp_range scheduler.decay=0.1, or scheduler.decay=1."
            )

    def factor(self, progress: float) -> float:
        return self.low + (1.0 - self.low) * self.scale(progress)

    def momentum(self, progress: float) -> float | None:
        if not self.cycle_momentum:
            return None
        fall = (self.momentum_high - self.momentum_low) * self.scale(self.after_warmup(progress))
        return self.momentum_high - fall

    def scale(self, progress: float) -> float:
        """The height above ``low``, in [0, 1]."""
        cycle = min(math.floor(progress * self.cycles + ROUNDING), self.cycles - 1)
        q = progress * self.cycles - cycle
        height = q / self.rise_frac if q <= self.rise_frac else (1.0 - q) / (1.0 - self.rise_frac)
        peak = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": self.decay**progress}[self.mode]
        return max(0.0, height) * peak
