"""Every sample several times in a batch, which so holds several augmented views of it.

Source: Berman, Jegou, Vedaldi, Kokkinos, Douze, "MultiGrain: a unified image embedding for classes and instances",
2019, arXiv:1902.05509, section 3.2, "repeated augmentations", three of them; Hoffer et al., "Augment your batch", 2019,
arXiv:1901.09335, which lets the batch grow instead.
An epoch keeps its number of updates, so it draws one in ``copies`` of the samples. The copies differ by what the
augmentations draw, which is independent for every row of a batch; without augmentation they are equal. Within a batch
the order is random: mixup and cutmix pair neighbours, and copies in a row would be mixed with themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.config.values import Count, check_fields
from mltricks.data.splits import Split


@dataclass(frozen=True)
class Repeated:
    """A random permutation, ``copies`` of each sample, cut to the number of samples, then shuffled batch by batch.

    Where the batch size is no multiple of ``copies``, the copies of a sample may lie in two batches.

    Args:
        copies: how often a sample is drawn, >= 1; 1 is ``shuffle``.
    """

    copies: Count

    def __post_init__(self) -> None:
        check_fields(self, "sampler.")

    def order(self, split: Split, seed: int, batch_size: int) -> Tensor:
        """The positions of one epoch, (N,) int64."""
        count, generator = len(split), torch.Generator().manual_seed(seed)
        drawn = torch.randperm(count, generator=generator)
        if self.copies == 1:
            return drawn
        mixed = torch.randperm(count, generator=generator)
        order = mixed[(mixed // batch_size).argsort(stable=True)]
        return drawn.repeat_interleave(self.copies)[:count][order]
