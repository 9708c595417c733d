"""Class targets as probabilities."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_targets(y: Tensor, num_classes: int) -> Tensor:
    """Class indices (B,) int64 to probabilities (B, K) float32; floating-point targets pass unchanged.

    >>> soft_targets(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if y.is_floating_point():
        return y
    return (y.unsqueeze(-1) == torch.arange(num_classes, device=y.device)).float()
