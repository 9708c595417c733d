"""The stream of training batches: a function of the seed, so that it can be entered anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, tee
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.data.splits import Split
from mltricks.state import fold


class Source:
    """Batches of the training split, epoch after epoch.

    Args:
        split: the training samples.
        sampler: ``order(split, seed) -> (N,) int64``, the positions of one epoch.
        batch_size: samples a batch.
        seed: of the order.
        drop_last: leave out the last batch of an epoch where it is not full.
        unlabeled: samples for ``x_unlabeled``, or ``None``.
        unlabeled_ratio: unlabelled samples for each labelled one.

    Raises:
        ValueError: a batch is larger than the training split.
    """

    def __init__(
        self,
        split: Split,
        sampler: Any,
        batch_size: int,
        seed: int,
        drop_last: bool = True,
        unlabeled: Split | None = None,
        unlabeled_ratio: int = 0,
    ):
        self.split, self.sampler, self.batch_size, self.seed, self.drop_last = (
            split,
            sampler,
            batch_size,
            seed,
            drop_last,
        )
        self.unlabeled, self.num_unlabeled = unlabeled, unlabeled_ratio * batch_size
        num = len(self.order(0))
        self.steps_per_epoch = num // batch_size if drop_last else -(-num // batch_size)
        self.smallest_batch = batch_size if drop_last or num % batch_size == 0 else num % batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"batch_size={batch_size} is larger than the {num} training samples: no batch is full. "
                f"Type batch_size={num} or less, or data.drop_last=false."
            )

    def order(self, epoch: int) -> Tensor:
        """The positions of one epoch, (N,) int64."""
        return self.sampler.order(self.split, fold(self.seed, 1, epoch))

    def indices(self, start: int) -> Iterator[Tensor]:
        """The positions of every batch from the batch number ``start`` on."""
        first, skip = divmod(start, self.steps_per_epoch)
        for epoch in count(first):
            order = self.order(epoch)
            for i in range(skip if epoch == first else 0, self.steps_per_epoch):
                yield order[i * self.batch_size : (i + 1) * self.batch_size]

    def unlabeled_indices(self, start: int) -> Iterator[Tensor]:
        """The positions of the unlabelled part of every batch: one permutation after another, cut into equal pieces."""
        assert self.unlabeled is not None, "there are unlabelled samples"
        epoch, skip = divmod(start * self.num_unlabeled, len(self.unlabeled))
        rest = self._permutation(epoch)[skip:]
        while True:
            while len(rest) < self.num_unlabeled:
                epoch += 1
                rest = torch.cat([rest, self._permutation(epoch)])
            yield rest[: self.num_unlabeled]
            rest = rest[self.num_unlabeled :]

    def _permutation(self, epoch: int) -> Tensor:
        assert self.unlabeled is not None, "there are unlabelled samples"
        generator = torch.Generator().manual_seed(fold(self.seed, 2, epoch))
        return torch.randperm(len(self.unlabeled), generator=generator)

    def stream(self, start: int = 0) -> Iterator[Batch]:
        """Yield what ``stream(0)`` yields after ``start`` batches, without end."""
        labelled = self._labelled(self.indices(start))
        if self.unlabeled is None or self.num_unlabeled == 0:
            return labelled
        return self._joined(labelled, self.unlabeled.batches(self.unlabeled_indices(start)))

    def _labelled(self, indices: Iterator[Tensor]) -> Iterator[Batch]:
        """Batches of the split; one of a user's own may leave their ``index`` to us."""
        ahead, indices = tee(indices)  # a split may read ahead
        for batch, index in zip(self.split.batches(ahead), indices, strict=True):
            yield batch if "index" in batch else {**batch, "index": index.to(batch["y"].device)}

    @staticmethod
    def _joined(labelled: Iterator[Batch], unlabeled: Iterator[Batch]) -> Iterator[Batch]:
        for batch, other in zip(labelled, unlabeled, strict=True):
            yield {**batch, "x_unlabeled": other["x"]}


def in_order(split: Split, batch_size: int) -> Iterator[Batch]:
    """Every sample of a split once, in order, for evaluation."""
    return split.batches(torch.arange(len(split)).split(batch_size))
