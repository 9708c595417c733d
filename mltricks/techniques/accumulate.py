"""Gradient accumulation: the gradient of a batch as the mean over micro-batches, so that memory holds one at a time.

Source: common practice; the equality with the gradient of the whole batch holds for a loss that is a mean over samples.
Deviation: pieces of unequal size count by their number of samples, so a batch need not be divisible.
Batch norm sees micro-batches, one after another. A loss over pairs of samples (contrastive) loses pairs across them.
Cost: ``num_micro`` smaller forward and backward passes, and one more copy of the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mltricks.batch import Batch
from mltricks.config.values import Count
from mltricks.functional.micro_batches import in_micro_batches
from mltricks.technique import GradFn, Own, Params, Technique


@dataclass(frozen=True)
class Accumulate(Technique):
    """g = sum over micro-batches of (their share of the samples) (their gradient).

    Last in the list, the rest sees the gradient of the whole batch. In front of another technique that changes
    gradients, that one sees a micro-batch at a time: ``[accumulate,sam]`` perturbs for each, ``[sam,accumulate]`` once.

    Args:
        num_micro: number of pieces that a batch is cut into, >= 1.
    """

    num_micro: Count

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        size = len(batch["y"])
        if self.num_micro > size:
            raise ValueError(
                f"technique.accumulate.num_micro={self.num_micro} is more than the {size} samples of a batch. "
                f"Type technique.accumulate.num_micro={size} or less, or a larger batch_size."
            )
        return params, {}

    def grads(self, inner: GradFn) -> GradFn:
        return in_micro_batches(inner, self.num_micro)
