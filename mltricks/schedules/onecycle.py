"""One cycle: up to the peak, then down far below the start, with the momentum moving the other way.

Source: Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018,
arXiv:1708.07120; two phases and defaults as in ``torch.optim.lr_scheduler.OneCycleLR``.
Deviation: torch ends its phases at ``pct_start * total - 1`` and ``total - 1`` updates, so that its last update sees
the final value; here they end at progress peak_frac and 1, as for every schedule. The curves agree where both are
written over the same points: torch's with ``total = n + 1`` and ``pct_start = (peak_frac * n + 1) / (n + 1)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mltricks.config.values import Decay, NonNegative, Probability
from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class OneCycle(Schedule):
    """From initial to 1 at peak_frac, then to final at the end; the momentum from high to low and back to high.

    Args:
        peak_frac: share of the run before the peak, in [0, 1].
        initial: factor at the start, >= 0.
        final: factor at the end, >= 0.
        anneal: shape of both phases, half a cosine or a line.
        cycle_momentum: whether the momentum (``beta1`` of Adam and its kin) is driven too.
        momentum_low: momentum at the peak, in [0, 1).
        momentum_high: momentum at the start and at the end, in [0, 1).
    """

    peak_frac: Probability
    initial: NonNegative
    final: NonNegative
    anneal: Literal["cos", "linear"]
    cycle_momentum: bool
    momentum_low: Decay
    momentum_high: Decay

    def factor(self, progress: float) -> float:
        return self._cycle(progress, self.initial, 1.0, self.final)

    def momentum(self, progress: float) -> float | None:
        if not self.cycle_momentum:
            return None
        return self._cycle(self.after_warmup(progress), self.momentum_high, self.momentum_low, self.momentum_high)

    def _cycle(self, progress: float, start: float, peak: float, end: float) -> float:
        if progress < self.peak_frac:
            return self._between(start, peak, progress / self.peak_frac)
        if self.peak_frac == 1.0:
            return peak
        return self._between(peak, end, (progress - self.peak_frac) / (1.0 - self.peak_frac))

    def _between(self, a: float, b: float, share: float) -> float:
        if self.anneal == "cos":
            share = 0.5 * (1.0 - math.cos(math.pi * share))
        return a + (b - a) * share
