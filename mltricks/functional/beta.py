"""Draw from the symmetric beta distribution, as mixup and cutmix need it."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_beta(alpha: float | Tensor, like: Tensor) -> Tensor:
    """One draw from Beta(alpha, alpha), 0-d float32, on the device of ``like``.

    The ratio of two gamma draws underflows to 0 / 0 for small ``alpha``; their logarithms do not. G(alpha) has the same
    distribution as G(alpha + 1) U^(1 / alpha), with U uniform.

    Args:
        alpha: > 0; a number or a 0-d tensor.
        like: a tensor on the wanted device.
    """
    shape = torch.ones(2, device=like.device) * alpha
    boosted = torch._standard_gamma(shape + 1)
    uniform = 1 - torch.rand(2, device=like.device)  # in (0, 1]: its logarithm is finite
    logs = boosted.log() + uniform.log() / shape
    return torch.sigmoid(logs[0] - logs[1])
