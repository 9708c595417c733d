"""Every sample once per epoch, in the order of the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.data.splits import Split


@dataclass(frozen=True)
class Sequential:
    """The positions 0, 1, 2, ..."""

    def order(self, split: Split, seed: int) -> Tensor:
        """The positions of one epoch, (N,) int64."""
        return torch.arange(len(split))
