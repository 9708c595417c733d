"""Gradient accumulation: the gradient of a batch as the mean over micro-batches, so that memory holds one at a time.

Source: common practice; the equality with the gradient of the whole batch holds for a loss that is a mean over samples.
Deviation: pieces of unequal size count by their number of samples, so a batch need not be divisible.
Batch norm sees micro-batches, one after another. A loss over pairs of samples (contrastive) loses pairs across them.
Cost: ``num_micro`` smaller forward and backward passes, and one more copy of the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count
from mltricks.functional import foreach
from mltricks.state import map_state
from mltricks.technique import Aux, Ctx, GradFn, Own, Params, Technique


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
        def accumulated(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
            if self.num_micro == 1:
                return inner(params, batch, ctx)
            size = len(batch["y"])
            total: list[Tensor] = []
            auxes, shares = [], []
            for piece in pieces(batch, self.num_micro):
                grads, aux = inner(params, piece, ctx)
                share = len(piece["y"]) / size
                total = foreach.axpy(
                    share, list(grads.values()), total or [torch.zeros_like(g) for g in grads.values()]
                )
                auxes.append(aux)
                shares.append(share)
            return dict(zip(grads, total, strict=True)), merge(auxes, shares)

        return accumulated


def pieces(batch: Batch, num: int) -> list[Batch]:
    """Cut a batch into at most ``num`` micro-batches of nearly the same size; none is empty.

    Every key is cut at the same fractions of its length, so ``x_unlabeled`` keeps its ratio to ``x``.

    >>> [p["x"].tolist() for p in pieces({"x": torch.arange(5), "y": torch.arange(5)}, 2)]
    [[0, 1], [2, 3, 4]]
    """
    size = len(batch["y"])
    num = min(num, size)
    bounds = [i * size // num for i in range(num + 1)]
    return [
        map_state(lambda t: t[low * len(t) // size : high * len(t) // size], batch)  # noqa: B023 (used at once)
        for low, high in pairwise(bounds)
    ]


def merge(auxes: Sequence[Aux], shares: Sequence[float]) -> Aux:
    """What the losses of the micro-batches say, as if one loss had said it.

    Numbers (metrics) are averaged by the shares; tensors with a sample axis are put together again in order; flags
    (``finite``) hold where all of them hold.
    """
    return {key: _merge([aux[key] for aux in auxes], shares) for key in auxes[0]}


def _merge(values: Sequence[Any], shares: Sequence[float]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return merge(values, shares)
    if not isinstance(first, Tensor):
        return first
    if first.ndim > 0:
        return torch.cat(list(values))
    if first.dtype == torch.bool:
        return torch.stack(list(values)).all()
    return sum(value * share for value, share in zip(values, shares, strict=True))
