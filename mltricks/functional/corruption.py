"""Noise on inputs that a model is to undo.

Source: Vincent, Larochelle, Bengio, Manzagol, "Extracting and Composing Robust Features with Denoising Autoencoders",
ICML 2008, section 2.3 (masking), and Vincent et al., "Stacked Denoising Autoencoders", JMLR 11, 2010, section 3.4
(Gaussian, salt-and-pepper). Swap noise is Jahrer's, of his solution for Porto Seguro's Safe Driver Prediction, 2017.
Every entry of every sample is drawn on its own. Legend: B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked(x: Tensor, p: float | Tensor) -> Tensor:
    """Entries are 0 with probability ``p``: in normalised inputs, the training mean."""
    return torch.where(torch.rand_like(x) < p, 0.0, x)


def gaussian(x: Tensor, std: float | Tensor) -> Tensor:
    """x + N(0, std^2)."""
    return x + std * torch.randn_like(x)


def salt_and_pepper(x: Tensor, p: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Entries are, with probability ``p``, the lowest or the highest value, by a fair coin.

    Args:
        x: (B, ...).
        p: in [0, 1].
        low, high: the extremes, of a shape that broadcasts to that of ``x``.
    """
    u = torch.rand_like(x)
    return torch.where(u < p, torch.where(u < 0.5 * p, low, high), x)


def swapped(x: Tensor, p: float | Tensor) -> Tensor:
    """Entries are, with probability ``p``, the same entry of another sample of the batch; B is at least 2."""
    flat, size = x.flatten(1), len(x)
    offset = 1 + (torch.rand_like(flat) * (size - 1)).long().clamp(max=size - 2)
    row = (torch.arange(size, device=x.device).unsqueeze(1) + offset) % size
    return torch.where(torch.rand_like(flat) < p, flat.gather(0, row), flat).view_as(x)
