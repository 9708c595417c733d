"""Fall by a factor whenever the validation score has stopped improving.

Source: ``torch.optim.lr_scheduler.ReduceLROnPlateau``, whose rules hold here validation by validation.
Deviation: the score that steers the run takes the place of the loss, whether higher or lower is better; the factor has
a lower end, ``min_factor``, in place of ``min_lr``; a change smaller than 1e-8 is made all the same; ``patience`` is 3
in place of 10, since a run validates about ten times.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from mltricks.config.values import NonNegative, Probability, Range, Size
from mltricks.schedules.base import Drive, Following, Schedule


@dataclass(frozen=True)
class Plateau(Schedule):
    """The warm-up times gamma^(number of drops so far).

    A drop comes after ``patience + 1`` validations in a row that bring no improvement. The factor is a function of the
    scores so far, so a run that resumes has the factor that it would have had, and runs that validate at other steps
    have another one.

    Args:
        gamma: multiplier at every drop, in (0, 1): torch's ``factor``.
        patience: validations without improvement that are let pass.
        threshold: smallest change that is an improvement, >= 0.
        threshold_mode: whether it is a share of the best score (``rel``) or in its units (``abs``).
        cooldown: validations after a drop that are not counted.
        min_factor: smallest factor, in [0, 1].
    """

    gamma: Annotated[float, Range(0.0, 1.0, above=True, below=True)]
    patience: Size
    threshold: NonNegative
    threshold_mode: Literal["rel", "abs"]
    cooldown: Size
    min_factor: Probability

    follows_score: ClassVar[bool] = True

    @property
    def least_scores(self) -> int:
        """The number of validations before the first drop can come; the first one always improves."""
        return self.patience + 2

    def factor(self, progress: float) -> float:
        return 1.0

    def between(self, start: float, end: float) -> Drive:
        return Following(self, start, end)

    def after(self, progress: float, scores: tuple[float, ...], higher_is_better: bool) -> float:
        """The factor at ``progress``, after validations with these scores."""
        return self(progress) * dropped(self, scores, higher_is_better)


@functools.lru_cache(maxsize=64)
def dropped(rule: Plateau, scores: tuple[float, ...], higher_is_better: bool) -> float:
    """What the drops so far have left of 1; the history is gone through again, so that nothing has to be kept."""
    sign = 1.0 if higher_is_better else -1.0
    margin = sign * rule.threshold
    best, bad, resting, factor = -sign * math.inf, 0, 0, 1.0
    for score in scores:
        bound = best * (1.0 + margin) if rule.threshold_mode == "rel" and math.isfinite(best) else best + margin
        bad += 1
        if sign * score > sign * bound:
            best, bad = score, 0
        if resting > 0:
            resting, bad = resting - 1, 0
        if bad > rule.patience:
            factor, resting, bad = max(factor * rule.gamma, rule.min_factor), rule.cooldown, 0
    return factor
