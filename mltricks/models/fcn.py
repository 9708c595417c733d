"""A fully convolutional network: an output for every pixel.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015, arXiv:1411.4038.
Deviation: the image keeps its size throughout, so there is nothing to upsample; made for small images.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mltricks.config.values import Count, check_value
from mltricks.models.layers import BASIC, IMAGES, Layers
from mltricks.models.residual import Residual

SWITCHES = (*BASIC, *IMAGES, "order", "residual")


class FCN(nn.Module):
    """``depth`` 3x3 convolutions with batch norm and ReLU, or what the switches say, then a 1x1 convolution.

    The dilation doubles from one convolution to the next.
    Shapes: (B, C, H, W) -> (B, num_outputs, H, W).

    Args:
        in_shape: (C, H, W).
        num_outputs: classes of a pixel.
        width: channels, >= 1.
        depth: number of 3x3 convolutions, >= 1.
        switches: see ``mltricks.models.layers``.

    Raises:
        ValueError: the input is no image, or a setting is out of range.
    """

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, depth: int, **switches: Any):
        super().__init__()
        check_value("model.width", width, Count)
        check_value("model.depth", depth, Count)
        switch = Layers.of("fcn", SWITCHES, switches)
        if not isinstance(in_shape, tuple) or len(in_shape) != 3:
            raise ValueError(f"model=fcn takes images (C, H, W), and these inputs have shape {in_shape}.")
        sizes = [in_shape[0], *[width] * depth]
        layers: list[nn.Module] = []
        for i in range(depth):
            made = switch.convolution(sizes[i], width, first=i == 0, padding=2**i, dilation=2**i)
            layers += [Residual(nn.Sequential(*made))] if switch.residual and i else made
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, num_outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
