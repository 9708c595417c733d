"""Part of a quarter of a cosine, from 1 downwards: the rate falls slowly first and does not reach 0.

Source: Sohn et al., "FixMatch", 2020, arXiv:2001.07685, section 2.4: cos(7 pi k / (16 K)), which ends at 0.195.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltricks.config.values import Fraction
from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class QuarterCosine(Schedule):
    """cos(share pi progress / 2).

    Args:
        share: how much of the quarter a run goes through, in (0, 1]; 1 ends at 0.
    """

    share: Fraction

    def factor(self, progress: float) -> float:
        return max(0.0, math.cos(self.share * math.pi / 2 * progress))
