"""Custom data of the contract tests, written as a user would."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import TensorDataset


def Blobs() -> TensorDataset:
    """Two clouds of points in four dimensions."""
    y = torch.arange(400) % 2
    return TensorDataset(y[:, None] * 2.0 + noise(400, 4), y)


def Slope() -> TensorDataset:
    """A linear function of four features, with a little noise."""
    x = noise(400, 4)
    return TensorDataset(x, x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]]) + 0.1 * noise(400, 1))


def Sets() -> TensorDataset:
    """Sets of three labels: which of three sums of four features are positive."""
    x = noise(400, 4)
    return TensorDataset(x, x @ torch.tensor([[1.0, 0.0, 1.0], [-2.0, 1.0, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]) > 0)


def noise(*shape: int) -> Tensor:
    """The same normal numbers at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
