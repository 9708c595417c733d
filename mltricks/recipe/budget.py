"""The training budget of the recipe, in samples, and its division among the steps.

Everything is counted in samples, so that runs of half an epoch and repeated batches are counted exactly; an update
counts as a whole batch. A step may use its share of the total, and never more than what is left; the final run gets
what the other steps leave over.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARES = {"overfit": 0.10, "rates": 0.10, "coarse": 0.25, "refine": 0.25, "again": 0.15}
"""The largest fraction of the budget that a step may use; the final run gets the rest, at least 0.15."""


@dataclass
class Budget:
    """The training budget, and how much of it has been used.

    Args:
        epochs: total passes over the training split, > 0.
        steps_per_epoch: updates per epoch.
        batch_size: samples per update.

    Attributes:
        spent: samples so far.
    """

    epochs: float
    steps_per_epoch: int
    batch_size: int
    spent: int = 0

    @property
    def total(self) -> int:
        """Total number of samples."""
        return int(self.epochs * self.epoch)

    @property
    def epoch(self) -> int:
        """Samples per epoch."""
        return self.steps_per_epoch * self.batch_size

    @property
    def left(self) -> int:
        """Number of updates left."""
        return max(0, self.total - self.spent) // self.batch_size

    @property
    def spent_epochs(self) -> float:
        return round(self.spent / self.epoch, 4)

    def share(self, step: str) -> int:
        """Number of updates that a step may use.

        >>> Budget(10, 40, 32).share("coarse")
        100
        """
        return min(self.left, int(SHARES[step] * self.total) // self.batch_size)

    def spend(self, updates: int, size: int | None = None) -> None:
        """Record updates on batches of ``size`` samples, by default the configured size."""
        self.spent += updates * (self.batch_size if size is None else size)
        assert self.spent <= self.total, "a step takes no more than is left"


def coarse_split(updates: int, budget: Budget) -> tuple[int, int]:
    """Number of trials of the coarse search, and updates of each.

    A trial trains for one epoch, and one more for every 50 epochs of budget, up to five. If the share affords fewer
    than four such trials, there are four shorter ones.

    >>> coarse_split(25 * 40, Budget(100, 40, 32))
    (12, 80)
    """
    epochs = min(5, max(1, round(budget.epochs / 50)))
    num = min(64, updates // (epochs * budget.steps_per_epoch))
    return (num, epochs * budget.steps_per_epoch) if num >= 4 else (4, updates // 4)


def refine_split(updates: int, budget: Budget) -> tuple[int, int]:
    """Number of trials of the refined search, and updates of each: 10 to 20 epochs, if the share affords two.

    >>> refine_split(25 * 40, Budget(100, 40, 32))
    (2, 480)
    """
    epoch = budget.steps_per_epoch
    num = min(16, max(2, updates // (15 * epoch)))
    each = min(20 * epoch, updates // num)
    return num, each - each % epoch if each >= epoch else each
