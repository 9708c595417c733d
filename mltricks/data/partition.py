"""Stratified choices of samples: every class keeps its proportion."""

from __future__ import annotations

import torch
from torch import Tensor

from mltricks.state import fold


def stratified(labels: Tensor | None, size: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Choose ``count`` of ``size`` samples so that every class keeps its proportion (largest-remainder rounding).

    Args:
        labels: (size,) int64 classes, or ``None`` for a plain random choice.
        size: number of samples.
        count: number to choose, 0 to ``size``.
        seed: of the choice.

    Returns:
        Positions of the chosen and of the other samples, each ascending.
    """
    generator = torch.Generator().manual_seed(fold(seed, size))
    order = torch.randperm(size, generator=generator)
    chosen = order[:count] if labels is None else _by_class(labels[order], order, count)
    mask = torch.zeros(size, dtype=torch.bool)
    mask[chosen] = True
    return mask.nonzero().flatten(), (~mask).nonzero().flatten()


def per_class(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Choose ``count`` samples of every class at random; a smaller count chooses some of those of a larger one.

    Args:
        labels: (N,) int64 classes.
        count: samples of each; a class that has fewer gives all of its own.
        seed: of the choice.

    Returns:
        Positions of the chosen and of the other samples, each ascending.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(fold(seed, len(labels))))
    dealt = order[torch.argsort(labels[order], stable=True)]
    sizes = torch.bincount(labels)
    rank = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[labels[dealt]]
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[dealt[rank < count]] = True
    return mask.nonzero().flatten(), (~mask).nonzero().flatten()


def folds_of(labels: Tensor | None, size: int, folds: int, seed: int) -> Tensor:
    """The fold of every sample, (size,) int64 from 0 to ``folds - 1``: sizes differ by at most 1, in every class too.

    Args:
        labels: (size,) int64 classes, or ``None`` for a plain random division.
        size: number of samples.
        folds: number of folds.
        seed: of the division.
    """
    order = torch.randperm(size, generator=torch.Generator().manual_seed(fold(seed, size)))
    dealt = order if labels is None else order[torch.argsort(labels[order], stable=True)]
    found = torch.empty(size, dtype=torch.int64)
    found[dealt] = torch.arange(size) % folds
    return found


def _by_class(shuffled: Tensor, order: Tensor, count: int) -> Tensor:
    sizes = torch.bincount(shuffled)
    exact = sizes.double() * count / len(shuffled)
    quota = exact.floor().long()
    missing = count - int(quota.sum())
    quota[torch.argsort(exact - quota, descending=True, stable=True)[:missing]] += 1
    return torch.cat([order[shuffled == c][: int(q)] for c, q in enumerate(quota)])
