"""Two towers: each input of a pair goes through a network of its own, and a head reads both.

Source: Bromley et al., "Signature Verification using a Siamese Time Delay Neural Network", 1993.
Deviation: the towers do not share their weights, since the two inputs may be of different kinds.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.config.values import Count, check_value
from mltricks.models.layers import BASIC, Layers

SWITCHES = (*BASIC, "depth", "order", "residual")


class TwoTowers(nn.Module):
    """Hidden layers for each input, and a linear head on both.

    Shapes: ``{"left": (B, ...), "right": (B, ...)}`` -> (B, num_outputs).

    Args:
        in_shape: shapes of the two inputs by name.
        num_outputs: width of the output.
        width: units of each layer of a tower, >= 1.
        switches: see ``mltricks.models.layers``; and ``depth``, >= 1.

    Raises:
        ValueError: the input is no pair, or a setting is out of range.
    """

    def __init__(self, in_shape: dict[str, Any], num_outputs: int, width: int, **switches: Any):
        super().__init__()
        check_value("model.width", width, Count)
        if not isinstance(in_shape, dict):
            raise ValueError(f"model=two_towers takes pairs of inputs, and these are {in_shape}. Type model=mlp.")
        layers = Layers.of("two_towers", SWITCHES, switches)
        self.towers = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Flatten(), *layers.hidden(math.prod(shape), width, layers.depth))
                for name, shape in in_shape.items()
            }
        )
        self.head = nn.Linear(len(in_shape) * width, num_outputs)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.head(torch.cat([tower(x[name]) for name, tower in self.towers.items()], 1))
