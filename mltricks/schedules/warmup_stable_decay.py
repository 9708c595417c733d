"""A warm-up, a long constant part and a short decay at the end.

Source: Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training Strategies", 2024,
arXiv:2404.06395, section 4; the decay over the last fifth by 1 - sqrt: Haegele et al., "Scaling Laws and
Compute-Optimal Training Beyond Fixed Training Durations", 2024, arXiv:2405.18392, section 3.
Deviation: MiniCPM decays exponentially over the last tenth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mltricks.config.values import Fraction, NonNegative
from mltricks.schedules.base import ROUNDING, Schedule


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """1 up to the decay; then, with q from 0 to 1 over it, final + (1 - final) (1 - sqrt(q)) or (1 - q).

    Args:
        decay_frac: share of the run after the warm-up that decays, in (0, 1].
        decay: shape of the decay, ``sqrt`` (1 - sqrt(q)) or ``linear``.
        final: factor at the end, >= 0.
    """

    decay_frac: Fraction
    decay: Literal["sqrt", "linear"]
    final: NonNegative

    def factor(self, progress: float) -> float:
        q = min(1.0 - (1.0 - progress) / self.decay_frac, 1.0)
        if q < ROUNDING:  # the root of a rounding error would be no rounding error
            return 1.0
        left = 1.0 - q**0.5 if self.decay == "sqrt" else 1.0 - q
        return self.final + (1.0 - self.final) * left
