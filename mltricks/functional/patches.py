"""Images as sequences of patches, and random masks of them.

Legend: B batch, C channels, H height, W width, N patches (rows of them from top to bottom, each from left to right),
P side of a patch, V values of a patch: P P C, channel last as in the sources of the techniques that use them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EPS = 1e-6
"""Added to the variance of a patch (He et al. 2021, the authors' code)."""
SLACK = 1e-3
"""A share of blocks counts as a whole number of them up to this, since 0.6 of 25 is 15.000001 in single precision."""


def patchify(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, N, V).

    >>> patchify(torch.arange(8.0).view(1, 1, 2, 4), 2)
    tensor([[[0., 1., 4., 5.],
             [2., 3., 6., 7.]]])
    """
    return x.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, side: int, rows: int) -> Tensor:
    """The inverse of ``patchify``: (B, N, V) -> (B, C, H, W)."""
    grid = patches.unflatten(2, (side, side, -1)).unflatten(1, (rows, -1))
    return grid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every patch, (B, N, 1) each; the variance is unbiased, plus 1e-6."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + EPS).sqrt()


class Kept(NamedTuple):
    """Which patches of every sample a model sees.

    Attributes:
        keep: their positions in random order, (B, K) int64.
        restore: where each patch is in a sequence of the kept ones and then the others, (B, N) int64.
        mask: 1 for a patch that it does not see, (B, N) float32.
    """

    keep: Tensor
    restore: Tensor
    mask: Tensor


def keep_some(size: int, num_patches: int, num_kept: int, device: torch.device) -> Kept:
    """Draw ``num_kept`` of the patches of each of ``size`` samples: those of the lowest of N uniform numbers."""
    order = torch.rand(size, num_patches, device=device).argsort(1)
    restore = order.argsort(1)
    return Kept(order[:, :num_kept], restore, (restore >= num_kept).float())


def block_mask(size: int, rows: int, columns: int, block: int, ratio: float | Tensor, device: torch.device) -> Tensor:
    """Mask ceil(ratio n) of the n square blocks of patches of each sample.

    Args:
        size: B.
        rows, columns: of patches, multiples of ``block``.
        block: side of a block in patches.
        ratio: share of the blocks; may be a 0-d tensor.

    Returns:
        1 for a masked patch, (B, N) float32.
    """
    down, across = rows // block, columns // block
    rank = torch.rand(size, down * across, device=device).argsort(1).argsort(1)
    hidden = (rank + SLACK < ratio * (down * across)) | (rank == 0)
    mask = hidden.float().unflatten(1, (down, across))
    return mask.repeat_interleave(block, 1).repeat_interleave(block, 2).flatten(1)


def paint(mask: Tensor, side: int, rows: int) -> Tensor:
    """A mask of patches (B, N) as one of pixels, (B, 1, H, W)."""
    return unpatchify(mask.unsqueeze(2).expand(-1, -1, side * side), side, rows)
