"""A siamese network: both inputs of a pair go through the same network, which embeds them.

Source: Bromley et al., "Signature Verification using a Siamese Time Delay Neural Network", 1993; Hadsell, Chopra,
LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006.
Deviation: the network is a multilayer perceptron.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.config.values import Count, check_value
from mltricks.models.layers import BASIC, Layers

SWITCHES = (*BASIC, "depth", "order", "residual")


class Siamese(nn.Module):
    """Hidden layers and a linear embedding, for both inputs with the same weights.

    Shapes: ``{"left": (B, ...), "right": (B, ...)}`` -> (B, 2, embedding).

    Args:
        in_shape: shapes of the two inputs by name.
        width: units of each hidden layer, >= 1.
        embedding: length of an embedding, >= 1.
        switches: see ``mltricks.models.layers``; and ``depth``, >= 1.

    Raises:
        ValueError: the input is no pair of one shape, or a size is out of range.
    """

    def __init__(self, in_shape: dict[str, Any], width: int, embedding: int, **switches: Any):
        super().__init__()
        check_value("model.width", width, Count)
        check_value("model.embedding", embedding, Count)
        shapes = list(in_shape.values()) if isinstance(in_shape, dict) else []
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            raise ValueError(
                f"model=siamese takes pairs of inputs of one shape, and these are {in_shape}. Type data=digit_pairs, "
                "or model=two_towers for parts of different shapes."
            )
        layers = Layers.of("siamese", SWITCHES, switches)
        hidden = layers.hidden(math.prod(shapes[0]), width, layers.depth)
        self.tower = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, embedding))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return torch.stack([self.tower(part) for part in (x["left"], x["right"])], 1)
