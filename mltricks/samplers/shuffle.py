"""Every sample once per epoch, in random order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.data.splits import Split


@dataclass(frozen=True)
class Shuffle:
    """A new permutation every epoch."""

    def order(self, split: Split, seed: int) -> Tensor:
        """The positions of one epoch, (N,) int64."""
        return torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
