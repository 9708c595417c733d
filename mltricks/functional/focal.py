"""The factor of focal loss."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-7
"""Smallest 1 - p that is raised to a power: the gradient of a power below 1 is infinite at 0."""


def focal_factor(losses: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma for p = exp(-losses); exactly 1 at gamma = 0.

    Args:
        losses: -log p, >= 0.
        gamma: >= 0.

    >>> focal_factor(torch.tensor([0.25]).log().neg(), 2.0)
    tensor([0.5625])
    """
    return (-torch.expm1(-losses)).clamp_min(TINY) ** gamma
