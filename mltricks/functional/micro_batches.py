"""The gradient of a batch as the mean of the gradients of its micro-batches.

Cost: ``num`` smaller forward and backward passes, and one more copy of the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.functional import foreach
from mltricks.state import map_state
from mltricks.technique import Aux, Ctx, GradFn, Params


def in_micro_batches(inner: GradFn, num: int) -> GradFn:
    """A gradient taken piece by piece, g = sum over pieces of (its share of the samples) (its gradient).

    Args:
        inner: takes the gradient of one piece.
        num: pieces that a batch is cut into, >= 1; a batch of fewer samples is cut into single samples.
    """
    if num == 1:
        return inner

    def grads(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
        size = len(batch["y"])
        total: list[Tensor] = []
        auxes, shares = [], []
        for piece in pieces(batch, num):
            found, aux = inner(params, piece, ctx)
            share = len(piece["y"]) / size
            total = foreach.axpy(share, list(found.values()), total or [torch.zeros_like(g) for g in found.values()])
            auxes.append(aux)
            shares.append(share)
        return dict(zip(found, total, strict=True)), merge(auxes, shares)

    return grads


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
