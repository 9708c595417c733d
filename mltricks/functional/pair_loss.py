"""The contrastive loss of pairs: similar ones are drawn together, others pushed apart up to a margin.

Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006, equation 4.
Deviation: the square root of the distance has ``EPSILON`` added inside, since its gradient is infinite at 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-12


def pair_loss(squares: Tensor, similar: Tensor, margin: float | Tensor) -> Tensor:
    """1/2 d^2 for similar pairs and 1/2 max(0, margin - d)^2 for others.

    Args:
        squares: d^2 of every pair, the squared distance of its embeddings.
        similar: bool, of the same shape.
        margin: distance from which on dissimilar pairs cost nothing, > 0.

    >>> pair_loss(torch.tensor([4.0, 0.25, 4.0]), torch.tensor([True, False, False]), 1.0)
    tensor([2.0000, 0.1250, 0.0000])
    """
    apart = (margin - (squares + EPSILON).sqrt()).clamp_min(0).square()
    return torch.where(similar, squares, apart) / 2
