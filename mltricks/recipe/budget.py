"""The budget: how many samples may pass through training, and how they are divided among the steps.

Everything is counted in samples, so that a run of half an epoch and a batch that is made again and again are counted
exactly; an update counts as a whole batch. A step may take its share of the whole, and never more than what is left;
what it does not take is left to the final run.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARES = {"overfit": 0.10, "rates": 0.10, "coarse": 0.25, "refine": 0.25, "again": 0.15}
"""Of the whole budget, at most; the final run has the rest, 0.15 and whatever the steps leave."""


@dataclass
class Budget:
    """What may be spent and what was.

    Args:
        epochs: passes over the training split in all, > 0.
        steps_per_epoch: updates an epoch.
        batch_size: samples an update.

    Attributes:
        spent: samples so far.
    """

    epochs: float
    steps_per_epoch: int
    batch_size: int
    spent: int = 0

    @property
    def total(self) -> int:
        """Samples in all."""
        return int(self.epochs * self.epoch)

    @property
    def epoch(self) -> int:
        """Samples an epoch."""
        return self.steps_per_epoch * self.batch_size

    @property
    def left(self) -> int:
        """Updates that are left."""
        return max(0, self.total - self.spent) // self.batch_size

    @property
    def spent_epochs(self) -> float:
        return round(self.spent / self.epoch, 4)

    def share(self, step: str) -> int:
        """Updates that a step may make.

        >>> Budget(10, 40, 32).share("coarse")
        100
        """
        return min(self.left, int(SHARES[step] * self.total) // self.batch_size)

    def spend(self, updates: int, size: int | None = None) -> None:
        """Note updates on batches of ``size`` samples, by default the configured ones."""
        self.spent += updates * (self.batch_size if size is None else size)
        assert self.spent <= self.total, "a step takes no more than is left"


def coarse_split(updates: int, budget: Budget) -> tuple[int, int]:
    """Number of trials of the coarse search, and updates of each.

    A trial takes an epoch, and with every 50 epochs of budget one more, up to five. Where that leaves fewer than four
    trials, four shorter ones are made.

    >>> coarse_split(25 * 40, Budget(100, 40, 32))
    (12, 80)
    """
    epochs = min(5, max(1, round(budget.epochs / 50)))
    num = min(64, updates // (epochs * budget.steps_per_epoch))
    return (num, epochs * budget.steps_per_epoch) if num >= 4 else (4, updates // 4)


def refine_split(updates: int, budget: Budget) -> tuple[int, int]:
    """Number of trials of the refined search, and updates of each: 10 to 20 epochs where there is enough for two.

    >>> refine_split(25 * 40, Budget(100, 40, 32))
    (2, 480)
    """
    epoch = budget.steps_per_epoch
    num = min(16, max(2, updates // (15 * epoch)))
    each = min(20 * epoch, updates // num)
    return num, each - each % epoch if each >= epoch else each
