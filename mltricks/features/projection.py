"""Features drawn in a plane: their first two principal components. Legend: N samples, D features."""

from __future__ import annotations

import torch
from torch import Tensor


def two_components(x_ND: Tensor) -> tuple[Tensor, list[float]]:
    """The coordinates along the two directions of largest variance, as scikit-learn's PCA.

    Args:
        x_ND: features, N >= 1.

    Returns:
        (N, 2) float64 on the CPU, each direction with the sign that makes its largest loading positive; and the share
        of the variance along each. Where there is no second direction, its coordinates and share are 0.
    """
    x = x_ND.cpu().double()
    u, s, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    sign = v.gather(1, v.abs().argmax(1, keepdim=True)).sign().T
    shares = s.square() / s.square().sum().clamp_min(torch.finfo(s.dtype).tiny)
    plane, two = x.new_zeros(len(x), 2), min(2, len(s))
    plane[:, :two] = (u * s * sign)[:, :two]
    return plane, [float(share) for share in (*shares[:two], *[0.0] * (2 - two))]
