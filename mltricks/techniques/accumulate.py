"""Gradient accumulation: average the gradient over micro-batches, so that memory holds one micro-batch at a time.

Source: common practice; the equality with the gradient of the whole batch holds for a loss that is a mean over samples.
Deviation: unequal micro-batches are weighted by their number of samples, so a batch need not be divisible.
Batch norm sees each micro-batch in turn. A loss over pairs of samples (contrastive) loses pairs across micro-batches.
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

    The techniques before it in the list see the gradient of the whole batch; those after it see one micro-batch at a
    time: ``[sam,accumulate]`` perturbs once per batch, ``[accumulate,sam]`` once per micro-batch.

    Args:
        num_micro: number of micro-batches per batch, >= 1.
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
