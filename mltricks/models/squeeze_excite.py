"""Squeeze and excitation as a layer of a model."""

from __future__ import annotations

from torch import Tensor, nn

from mltricks.functional.squeeze_excite import gates, hidden_units


class SqueezeExcite(nn.Module):
    """x times a gate in (0, 1) for every channel: sigmoid(W2 ReLU(W1 mean(x))).

    Shapes: (B, C, H, W) -> the same.

    Args:
        channels: C.
        reduction: C divided by the number of hidden units, >= 1 (source: 16).
    """

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        hidden = hidden_units(channels, reduction)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        reduce, expand = self.reduce, self.expand
        return x * gates(x, (reduce.weight, reduce.bias), (expand.weight, expand.bias)).sigmoid()
