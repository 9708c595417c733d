"""A constant factor of 1."""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.schedules.base import Schedule


@dataclass(frozen=True)
class Constant(Schedule):
    """The value as configured."""

    def factor(self, progress: float) -> float:
        return 1.0
