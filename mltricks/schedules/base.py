"""The base of every schedule: a function from progress in [0, 1] to a factor, after a warm-up.

Update i of n, counted from 0, has progress i / n: the first update sees 0 and the last (n - 1) / n. A final factor is
the one an update after the last would see, as in ``torch.optim.lr_scheduler``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from mltricks.config.values import NonNegative, Probability, check_fields

Drive = Callable[[float], float]
"""Maps progress in [0, 1) to the value of a hyperparameter."""

ROUNDING = 1e-9
"""Tolerance for a border that i / n should hit exactly but misses by rounding."""


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up, then ``factor`` over the rest of the run.

    Args:
        warmup_frac: share of the run spent warming up, in [0, 1].
        warmup_start: factor at the first step of the warm-up, >= 0.
    """

    warmup_frac: Probability
    warmup_start: NonNegative

    follows_score: ClassVar[bool] = False
    """Whether it also depends on the validation scores so far; its drives are then ``Following``."""

    def __post_init__(self) -> None:
        check_fields(self, "scheduler.")
        if self.warmup_start and not self.warmup_frac:
            raise ValueError(
                f"scheduler.warmup_start={self.warmup_start} has no effect without a warm-up. "
                "Type scheduler.warmup_frac=0.05 with it."
            )

    def __call__(self, progress: float) -> float:
        """The factor at ``progress``, the share of the run that is done."""
        if progress < self.warmup_frac - ROUNDING:
            return self.warmup_start + (self.factor(0.0) - self.warmup_start) * progress / self.warmup_frac
        return self.factor(self.after_warmup(progress))

    def after_warmup(self, progress: float) -> float:
        """Progress within the part after the warm-up, in [0, 1]; 0 during the warm-up."""
        if self.warmup_frac == 1.0:
            return 0.0
        return max(0.0, (progress - self.warmup_frac) / (1.0 - self.warmup_frac))

    def factor(self, progress: float) -> float:
        """The factor after the warm-up, ``progress`` counted from its end."""
        raise AssertionError(f"{type(self).__name__} defines no factor")

    def between(self, start: float, end: float) -> Drive:
        """A value as a function of progress: the factor 1 stands for ``start``, the factor 0 for ``end``."""
        return lambda progress: end + (start - end) * self(progress)

    def drive(self, peak: float, total_steps: int, steps_per_epoch: int) -> Drive:
        """The learning rate as a function of progress.

        Args:
            peak: the configured learning rate, which the factor 1 stands for.
            total_steps: length of the run.
            steps_per_epoch: updates an epoch.
        """
        return self.between(peak, 0.0)

    def momentum(self, progress: float) -> float | None:
        """The momentum at ``progress`` where the schedule drives it as well, else ``None``."""
        return None


@dataclass(frozen=True)
class Following:
    """A drive that depends on the validation scores so far, and not on the progress alone.

    Attributes:
        schedule: its ``after(progress, scores, higher_is_better)`` gives the factor.
        start, end: the values of the factors 1 and 0.
    """

    schedule: Any
    start: float
    end: float

    def __call__(self, progress: float) -> float:
        """The value before the first validation."""
        return self.after(progress, (), True)

    def after(self, progress: float, scores: tuple[float, ...], higher_is_better: bool) -> float:
        """The value after validations with these scores."""
        return self.end + (self.start - self.end) * self.schedule.after(progress, scores, higher_is_better)
