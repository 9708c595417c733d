"""A short linear rise, then a long linear fall to a fixed share of the peak.

Source: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018, arXiv:1801.06146,
equation 3. Deviation: the border between rise and fall is not rounded to a whole number of updates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mltricks.config.values import Range
from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class SlantedTriangular(Schedule):
    """(1 + p (ratio - 1)) / ratio, where p goes from 0 to 1 at cut_frac and back to 0 at the end.

    Args:
        cut_frac: share of the run before the peak, in (0, 1).
        ratio: peak over lowest value, >= 1.
    """

    cut_frac: Annotated[float, Range(0.0, 1.0, above=True, below=True)]
    ratio: Annotated[float, Range(1.0)]

    def factor(self, progress: float) -> float:
        rising = progress < self.cut_frac
        p = progress / self.cut_frac if rising else (1.0 - progress) / (1.0 - self.cut_frac)
        return (1.0 + p * (self.ratio - 1.0)) / self.ratio
