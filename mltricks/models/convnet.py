"""A small convolutional network: a few convolutions and a linear layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mltricks.config.values import Count, check_value
from mltricks.models.layers import BASIC, IMAGES, Layers, num_features

SWITCHES = (*BASIC, *IMAGES, "depth", "order", "pool", "pool_ratio", "head_pool")


class ConvNet(nn.Module):
    """``depth`` times a 3x3 convolution, ReLU and 2x2 max-pooling, or what the switches say; then a linear head.

    Shapes: (B, C, H, W) -> (B, num_outputs).

    Args:
        in_shape: (C, H, W); H and W at least 2^depth.
        num_outputs: width of the output.
        width: channels of the first convolution, >= 1; each further one has twice as many.
        switches: see ``mltricks.models.layers``; and ``depth``, >= 1.

    Raises:
        ValueError: the input is no image or is too small, or a setting is out of range.
    """

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, **switches: Any):
        super().__init__()
        check_value("model.width", width, Count)
        self.switches = layers = Layers.of("convnet", SWITCHES, switches)
        smallest = 2**layers.depth
        if len(in_shape) != 3 or min(in_shape[1:]) < smallest:
            raise ValueError(
                f"model=convnet needs images of at least {smallest}x{smallest} pixels; the data have shape "
                f"{tuple(in_shape)}. Type model=mlp, or model=transformer for tokens."
            )
        sizes = [in_shape[0], *(width * 2**i for i in range(layers.depth))]
        made: list[nn.Module] = []
        for i in range(layers.depth):
            made += layers.convolution(sizes[i], sizes[i + 1], pool=True, first=i == 0)
        self.features = nn.Sequential(*made)
        self.head = nn.Linear(num_features(self.features, self.features, in_shape, layers), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.switches.pooled(self.features(x)))
