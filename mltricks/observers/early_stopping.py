"""Early stopping: end a run whose validation score has stopped improving.

Source: Prechelt, "Early Stopping - But When?", 1998, criterion UP with patience.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mltricks.evaluate import steered_by
from mltricks.observers.base import Moment, Observer

if TYPE_CHECKING:
    from mltricks.build import Run


class EarlyStopping(Observer):
    """Stops after ``patience`` validations in a row without an improvement by more than ``min_delta``.

    Args:
        patience: validations, >= 1.
        min_delta: in units of the score, >= 0.
    """

    def __init__(self, patience: int, min_delta: float):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.waited = math.nan, 0

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        score = steered_by(run)
        self.score, self.sign = score.score, 1.0 if score.higher_is_better else -1.0

    def validated(self, moment: Moment) -> bool:
        value = moment.record[self.score]
        first = math.isnan(self.best) and not math.isnan(value)
        if first or self.sign * (value - self.best) > self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.stopped()

    def stopped(self) -> bool:
        return self.waited >= self.patience

    def memory(self) -> dict[str, Tensor]:
        return {
            name: torch.tensor(float(v), dtype=torch.float64)
            for name, v in (("best", self.best), ("waited", self.waited))
        }

    def recall(self, memory: dict[str, Tensor]) -> None:
        if memory:
            self.best, self.waited = float(memory["best"]), int(memory["waited"])
