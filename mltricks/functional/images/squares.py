"""Squares cut out of images. Legend: B batch, C channels, H height, W width."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_out(x: Tensor, rows: Tensor, columns: Tensor, size: int | Tensor, fill: float) -> Tensor:
    """Set a square of every image to ``fill``; arguments as for ``square``."""
    return torch.where(square(x, rows, columns, size), fill, x)


def square(x: Tensor, rows: Tensor, columns: Tensor, size: int | Tensor) -> Tensor:
    """The masks of the squares with side ``size`` around the centres: (B, 1, H, W) bool.

    Args:
        x: images (B, C, H, W).
        rows, columns: (B,) int64, the centres.
        size: side of the squares, or (B,) int64; an even size extends one pixel further up and left.
    """
    down = _near(rows, x.shape[2], size)
    across = _near(columns, x.shape[3], size)
    return (down[:, :, None] & across[:, None, :]).unsqueeze(1)


def _near(centres: Tensor, length: int, size: int | Tensor) -> Tensor:
    """(B, length) bool: the ``size`` positions around every centre."""
    first, size = (centres - size // 2)[:, None], size[:, None] if isinstance(size, Tensor) else size
    position = torch.arange(length, device=centres.device)
    return (position >= first) & (position < first + size)
