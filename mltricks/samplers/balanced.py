"""Draw every class with equal probability, whatever its size, with replacement.

Source: ``weighted`` with equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.data.splits import Split
from mltricks.samplers.weighted import class_labels, draw


@dataclass(frozen=True)
class Balanced:
    """Draw a class uniformly, then a sample of it uniformly; an epoch draws as many samples as the split has."""

    def order(self, split: Split, seed: int) -> Tensor:
        """The positions of one epoch, (N,) int64.

        Raises:
            ValueError: the data have no classes.
        """
        labels = class_labels(split, "balanced")
        return draw(labels, torch.ones(int(labels.max()) + 1, dtype=torch.float64), seed)
