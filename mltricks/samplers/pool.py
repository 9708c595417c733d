"""Batches from a pool of samples that grows in the course of an epoch, each sample as often as any other."""

from __future__ import annotations

import torch
from torch import Tensor


def drawn_from(ranking: Tensor, sizes: list[int], batch_size: int, seed: int) -> Tensor:
    """Draw an epoch: batch i from the first ``sizes[i]`` samples of a ranking, those that were drawn least often first.

    From a pool of all samples it draws a random permutation, the one of ``torch.randperm``.

    Args:
        ranking: (N,) int64 positions, those that enter the pool first in front.
        sizes: size of the pool at every batch, in [1, N]; one per batch, the last one of which may be smaller.
        batch_size: samples per batch, B.
        seed: of the draws.

    Returns:
        (N,) int64 positions, N the length of the ranking.
    """
    count = len(ranking)
    generator = torch.Generator().manual_seed(seed)
    place = torch.empty(count, dtype=torch.float64)
    place[torch.randperm(count, generator=generator)] = torch.arange(count, dtype=torch.float64)
    keys = (place / count)[ranking]  # the whole part counts the draws of a sample, the rest is random
    found = []
    for i, size in enumerate(sizes):
        wanted = min(batch_size, count - i * batch_size)
        while wanted > 0:  # a pool smaller than a batch is gone through several times
            chosen = keys[:size].topk(min(wanted, size), largest=False, sorted=True).indices
            keys[chosen] = keys[chosen].floor() + 1 + torch.rand(len(chosen), dtype=torch.float64, generator=generator)
            found.append(ranking[chosen])
            wanted -= len(chosen)
    return torch.cat(found)


def ranked(difficulty: Tensor, seed: int, labels: Tensor | None = None) -> Tensor:
    """Positions from the lowest difficulty to the highest, (N,) int64; ties in random order.

    Args:
        difficulty: (N,) float.
        seed: of the order of ties.
        labels: (N,) int64 classes for a ranking in which every class is spread evenly: each sample is placed by its
            rank within its class, divided by the size of the class.
    """
    shuffled = torch.randperm(len(difficulty), generator=torch.Generator().manual_seed(seed))
    order = shuffled[difficulty[shuffled].argsort(stable=True)]
    if labels is None:
        return order
    share = torch.empty(len(order), dtype=torch.float64)
    for c in labels.unique():
        mine = order[labels[order] == c]
        share[mine] = torch.arange(1, len(mine) + 1, dtype=torch.float64) / len(mine)
    return order[share[order].argsort(stable=True)]


def last_losses(losses_N: Tensor, index: Tensor, losses: Tensor) -> Tensor:
    """The table of every sample's last loss after a batch; of a sample that is in it twice, the higher loss.

    Args:
        losses_N: (N,) float32, the table.
        index: (B,) int64 positions.
        losses: (B,) float32.
    """
    return losses_N.scatter_reduce(0, index, losses.to(losses_N.dtype), "amax", include_self=False)
