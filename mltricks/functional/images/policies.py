"""Put every image of a batch through one of several policies, each policy through an equal part of the batch.

A policy is a list of operations, one after the other. A batch that is computed as a whole would need every operation on
every image. Here the images that have an operation in common stand in one block of a fixed size, so every operation is
computed for its own images only, and still no shape depends on a draw.

The draw is stratified: which policy an image gets is uniform, and independent of the image, as if it were drawn for
each image alone; but within a batch each of P policies is drawn B / P times, rounded down or up. Legend: B images,
P policies, R rows of a block, S = P R.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Perform = Callable[[Tensor, int, list[int]], Tensor]
"""Maps images, the place in the policies, and the number of the policy of each of their equal parts to new images."""


def through_policies(x: Tensor, policies: Sequence[Sequence[str]], perform: Perform) -> Tensor:
    """Put every image through one policy, drawn at random.

    Args:
        x: images (B, C, H, W).
        policies: names of operations, as many in each policy.
        perform: applies the operations of one place. Policies with the same operation there follow each other.

    Returns:
        (B, C, H, W), in the order of ``x``.
    """
    num = len(policies)
    source_S, slot_B = assign(len(x), num, x.device)
    x, order = x.index_select(0, source_S), list(range(num))
    for place, names in enumerate(zip(*policies, strict=True)):
        x, order = rearranged(x, order, sorted(range(num), key=lambda i: names[i]))
        x = perform(x, place, order)
    return rearranged(x, order, list(range(num)))[0].index_select(0, slot_B)


def rearranged(x: Tensor, old: list[int], new: list[int]) -> tuple[Tensor, list[int]]:
    """The blocks of a batch in another order, and that order."""
    if old == new:
        return x, new
    blocks = dict(zip(old, x.chunk(len(old)), strict=True))
    return torch.cat([blocks[i] for i in new]), new


def assign(num_images: int, num_policies: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Assign every image to a row of a policy's block.

    The images are put in a random order and dealt out one by one to the policies, from a random policy on.

    Args:
        num_images: B, >= 1.
        num_policies: P, >= 1.
        device: of the results.

    Returns:
        For every row of the blocks its image, (S,) int64, where rows without one repeat another; and the row of every
        image, (B,) int64.
    """
    rows = -(-num_images // num_policies)
    order_B = torch.rand(num_images, device=device).argsort()
    first = torch.randint(num_policies, (), device=device)
    turn_P = (torch.arange(num_policies, device=device) - first) % num_policies
    rank_S = (turn_P[:, None] + num_policies * torch.arange(rows, device=device)).flatten()
    rank_B = order_B.argsort()
    return order_B.index_select(0, rank_S % num_images), (rank_B + first) % num_policies * rows + rank_B // num_policies
