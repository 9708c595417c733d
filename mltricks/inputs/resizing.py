"""Images brought to another size, with antialiasing. Legend: N samples, H height, W width, C channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PIECE = 1024
"""Images per piece: the floats of a piece take 4 times the memory of its pixels."""


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """Resize images as ``torchvision.transforms.v2.functional.resize`` does: bilinear, antialiased.

    Args:
        x: (N, H, W, C) uint8.
        height, width: the new size, >= 1.

    Returns:
        (N, height, width, C) uint8, rounded to the nearest; ``x`` itself if it has this size.
    """
    if tuple(x.shape[1:3]) == (height, width):
        return x
    out = torch.empty(len(x), height, width, x.shape[3], dtype=x.dtype)
    for first in range(0, len(x), PIECE):
        piece = x[first : first + PIECE].permute(0, 3, 1, 2).float()
        piece = F.interpolate(piece, (height, width), mode="bilinear", align_corners=False, antialias=True)
        out[first : first + PIECE] = piece.round_().clamp_(0, 255).permute(0, 2, 3, 1)
    return out
