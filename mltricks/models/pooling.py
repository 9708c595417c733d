"""Pooling: fractional max-pooling inside a network, and what a head sees of a feature map.

Source: Graham, "Fractional Max-Pooling", 2014, arXiv:1412.6071: overlapping 2x2 regions, pseudorandom sequences, in the
form of ``torch.nn.FractionalMaxPool2d``.
Deviation: the regions are drawn once for a batch, and evaluation uses those of the draw 1/2 where the source averages
predictions over draws.
Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pool = Literal["max", "mean", "fractional"]
HeadPool = Literal["max", "mean", "both", "flatten"]


class FractionalMaxPool(nn.Module):
    """Maxima of 2x2 regions whose places are drawn anew for every training batch.

    Shapes: (B, C, H, W) -> (B, C, H / ratio, W / ratio), rounded down, at least 1.

    Args:
        ratio: input size divided by output size, in (1, 2].
    """

    def __init__(self, ratio: float):
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        draws = torch.rand(2, device=x.device) if self.training else torch.full((2,), 0.5, device=x.device)
        for axis, draw in zip((2, 3), draws.unbind(), strict=True):
            starts = region_starts(x.shape[axis], max(int(x.shape[axis] / self.ratio), 1), draw)
            x = x.index_select(axis, torch.stack([starts, starts + 1], 1).flatten())
        return F.max_pool2d(x, 2)


def region_starts(size: int, count: int, draw: Tensor) -> Tensor:
    """The first index of each of ``count`` regions of length 2 in ``size`` positions.

    Args:
        size: >= 2.
        count: of regions, < ``size``.
        draw: the 0-d number u in [0, 1) of the paper's sequence a_i = floor(alpha (i + u)).

    >>> region_starts(5, 3, torch.tensor(0.5))
    tensor([0, 2, 3])
    """
    last = torch.full((1,), size - 2, device=draw.device)
    if count == 1:
        return last
    alpha = (size - 2) / (count - 1)
    places = torch.arange(count - 1, device=draw.device)
    return torch.cat([((places + draw) * alpha).floor().long() - (draw * alpha).floor().long(), last])


def pooled(x: Tensor, kind: HeadPool) -> Tensor:
    """The features that a linear head reads of a feature map (B, C, H, W): (B, C), or (B, 2 C) or (B, C H W).

    ``both`` is the maximum beside the mean, as in fastai's ``AdaptiveConcatPool2d``.
    """
    if kind == "flatten":
        return x.flatten(1)
    # amax rather than adaptive max-pooling, whose gradient is not deterministic on CUDA
    parts = [x.amax((2, 3))] if kind in ("max", "both") else []
    return torch.cat([*parts, x.mean((2, 3))], 1) if kind != "max" else parts[0]
