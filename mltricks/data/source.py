"""The stream of training batches: a function of the seed, so that resume can start it at any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, tee
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.options import option_of
from mltricks.data.order import Held, Own, arguments, first_held, learns
from mltricks.data.splits import Split
from mltricks.state import fold, map_state

EPOCH = 100
"""Batches in an epoch whose size a message proposes."""


class Source:
    """Batches of the training split, epoch after epoch.

    Args:
        split: the training samples.
        sampler: determines the positions of every epoch; see ``mltricks.data.order``.
        batch_size: samples per batch.
        seed: of the order.
        drop_last: leave out the last batch of an epoch if it is not full.
        unlabeled: samples for ``x_unlabeled``, or ``None``.
        unlabeled_ratio: unlabelled samples per labelled one.
        epochs, max_steps: limits of the run, from which its progress at the start of an epoch follows.
        epoch_size: training samples an epoch: orders of the sampler one after the other, cut to this number. ``None``:
            one order.

    Attributes:
        untaught: the initial state of a learning sampler; ``None`` for other samplers.

    Raises:
        ValueError: a batch is larger than the training split, or the sampler names an unknown argument.
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
        epochs: int = 1,
        max_steps: int | None = None,
        epoch_size: int | None = None,
    ):
        self.split, self.sampler, self.batch_size, self.seed, self.drop_last = (
            split,
            sampler,
            batch_size,
            seed,
            drop_last,
        )
        self.unlabeled, self.num_unlabeled = unlabeled, unlabeled_ratio * batch_size
        self.asked, self.epoch_size = arguments(sampler), epoch_size
        self.untaught = first_held(sampler, split) if learns(sampler) else None
        num = self.num_samples = len(self._order(0, (0.0, 1.0), None))
        self.steps_per_epoch = num // batch_size if drop_last else -(-num // batch_size)
        self.smallest_batch = batch_size if drop_last or num % batch_size == 0 else num % batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"batch_size={batch_size} is larger than the {num} training samples: no batch is full. "
                f"Type batch_size={num} or less, data.epoch_size={EPOCH * batch_size} to draw samples repeatedly, or "
                "data.drop_last=false."
            )
        self.total_steps = min(epochs * self.steps_per_epoch, max_steps or epochs * self.steps_per_epoch)

    def order(self, epoch: int, own: Own | None = None) -> Tensor:
        """The positions of one epoch, (N,) int64.

        Args:
            epoch: from 0.
            own: a learning sampler's tensors at the start of the epoch; ``None`` for the start of the run.

        Raises:
            ValueError: the epoch differs in length from the first.
        """
        begin, end = (min(i * self.steps_per_epoch / self.total_steps, 1.0) for i in (epoch, epoch + 1))
        order = self._order(epoch, (begin, end), own)
        if len(order) != self.num_samples:
            raise ValueError(
                f"sampler={option_of('sampler', self.sampler)} gives {len(order)} samples for epoch {epoch} and "
                f"{self.num_samples} for the first. All epochs have one length: draw with replacement, or repeat."
            )
        return order

    def _order(self, epoch: int, progress: tuple[float, float], own: Own | None) -> Tensor:
        given: dict[str, Any] = {"epoch": epoch, "batch_size": self.batch_size}
        given["progress"], given["progress_after"] = progress
        if self.untaught is not None:
            given["own"] = map_state(lambda t: t.cpu(), self.untaught["start"] if own is None else own)
        asked = {name: given[name] for name in self.asked}
        order: Tensor = self.sampler.order(self.split, fold(self.seed, 1, epoch), **asked)
        if self.epoch_size is None:
            return order
        parts = [order]
        for again in range(1, -(-self.epoch_size // max(len(order), 1))):
            parts.append(self.sampler.order(self.split, fold(self.seed, 1, epoch, again), **asked))
        return torch.cat(parts)[: self.epoch_size]

    def indices(self, start: int) -> Iterator[Tensor]:
        """The positions of every batch, from batch number ``start`` on."""
        first, skip = divmod(start, self.steps_per_epoch)
        for epoch in count(first):
            yield from self._cut(self.order(epoch), skip if epoch == first else 0)

    def _cut(self, order: Tensor, skip: int) -> Iterator[Tensor]:
        """The positions of the batches of an epoch, without the first ``skip``."""
        for i in range(skip, self.steps_per_epoch):
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

    def stream(self, start: int = 0, held: Callable[[], Held] | None = None) -> Iterator[Batch]:
        """Yield batches without end, from batch number ``start`` on.

        Args:
            start: number of batches to skip.
            held: called when an epoch begins; returns a learning sampler's state. ``None`` for its initial state.
        """
        if self.untaught is not None:
            first = self.untaught
            labelled = self._learned(start, held or (lambda: first))
        else:
            labelled = self._labelled(self.indices(start))
        if self.unlabeled is None or self.num_unlabeled == 0:
            return labelled
        return self._joined(labelled, self.unlabeled.batches(self.unlabeled_indices(start)))

    def _labelled(self, indices: Iterator[Tensor]) -> Iterator[Batch]:
        """Batches of the split, with ``index`` added if a user's split leaves it out."""
        ahead, indices = tee(indices)  # a split may read ahead, so queue the positions
        for batch, index in zip(self.split.batches(ahead), indices, strict=True):
            yield batch if "index" in batch else {**batch, "index": index.to(batch["y"].device)}

    def _learned(self, start: int, held: Callable[[], Held]) -> Iterator[Batch]:
        """Stream epoch by epoch: the order of the next epoch is not known yet, so nothing may be read ahead."""
        first, skip = divmod(start, self.steps_per_epoch)
        for epoch in count(first):
            own = held()["start" if skip else "now"]
            yield from self._weighed(self._labelled(self._cut(self.order(epoch, own), skip)), own)
            skip = 0

    def _weighed(self, batches: Iterator[Batch], own: Own) -> Iterator[Batch]:
        """Batches with the weights of a sampler that makes up for its draws."""
        weights = getattr(self.sampler, "weights", None)
        if not callable(weights):
            return batches
        table = weights(map_state(lambda t: t.cpu(), own))
        return ({**batch, "weight": table.to(batch["y"].device)[batch["index"]]} for batch in batches)

    def _joined(self, labelled: Iterator[Batch], unlabeled: Iterator[Batch]) -> Iterator[Batch]:
        labels = getattr(self.unlabeled, "labels", None)
        with_classes = labels is not None and bool((labels >= 0).any())
        for batch, other in zip(labelled, unlabeled, strict=True):
            yield {**batch, "x_unlabeled": other["x"], **({"y_unlabeled": other["y"]} if with_classes else {})}


def in_order(split: Split, batch_size: int) -> Iterator[Batch]:
    """Every sample of a split once, in order, for evaluation."""
    return split.batches(torch.arange(len(split)).split(batch_size))
