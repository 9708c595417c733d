"""A multilayer perceptron."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from mltricks.config.values import Count, Size, check_value

DEEPEST = 1000


class MLP(nn.Module):
    """Flatten, then ``depth`` hidden layers with ReLU, then the head.

    Shapes: (B, ...) with ``in_shape`` behind the batch axis -> (B, num_outputs).

    Args:
        in_shape: shape of one input.
        num_outputs: width of the output.
        width: units of every hidden layer, >= 1.
        depth: number of hidden layers, in [0, 1000].

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, depth: int):
        super().__init__()
        check_value("model.width", width, Count)
        check_value("model.depth", depth, Size)
        if depth > DEEPEST:
            raise ValueError(f"model.depth={depth} is out of range. Allowed: 0 to {DEEPEST}.")
        sizes = [math.prod(in_shape)] + [width] * depth
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x.flatten(1)))
