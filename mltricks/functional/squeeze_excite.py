"""Squeeze and excitation: channels of a feature map are scaled by gates that see the whole map.

Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks", 2018, arXiv:1709.01507, equations 2 to 4.
Legend: B batch, C channels, R hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gates(x: Tensor, reduce: tuple[Tensor, Tensor], expand: tuple[Tensor, Tensor]) -> Tensor:
    """The gate of every channel, before the sigmoid.

    Args:
        x: feature map, (B, C, H, W).
        reduce: weight (R, C) and bias (R,) of the first linear layer.
        expand: weight (C, R) and bias (C,) of the second.

    Returns:
        (B, C, 1, 1).
    """
    squeezed = x.mean((2, 3))
    hidden = torch.nn.functional.linear(squeezed, *reduce).relu()
    return torch.nn.functional.linear(hidden, *expand)[:, :, None, None]


def hidden_units(channels: int, reduction: int) -> int:
    """R = C / reduction, at least 1."""
    return max(channels // reduction, 1)
