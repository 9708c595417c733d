"""A multilayer perceptron."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from mltricks.config.values import Count, Size, check_value
from mltricks.models.layers import BASIC, Layers

SWITCHES = (*BASIC, "order", "residual")
DEEPEST = 1000


class MLP(nn.Module):
    """Flatten, then ``depth`` hidden layers with ReLU or what the switches say, then the head.

    Shapes: (B, ...) with ``in_shape`` behind the batch axis -> (B, num_outputs).

    Args:
        in_shape: shape of one input.
        num_outputs: width of the output.
        width: units of every hidden layer, >= 1.
        depth: number of hidden layers, in [0, 1000].
        switches: see ``mltricks.models.layers``.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, depth: int, **switches: Any):
        super().__init__()
        check_value("model.width", width, Count)
        check_value("model.depth", depth, Size)
        if depth > DEEPEST:
            raise ValueError(f"model.depth={depth} is out of range. Allowed: 0 to {DEEPEST}.")
        layers = Layers.of("mlp", SWITCHES, switches)
        num_inputs = math.prod(in_shape)
        self.hidden = nn.Sequential(*layers.hidden(num_inputs, width, depth))
        self.head = nn.Linear(width if depth else num_inputs, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x.flatten(1)))
