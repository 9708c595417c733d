"""A fully convolutional network: an output for every pixel.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015, arXiv:1411.4038.
Deviation: the image keeps its size throughout, so there is nothing to upsample; made for small images.
"""

from __future__ import annotations

from torch import Tensor, nn

from mltricks.config.values import Count, check_value


class FCN(nn.Module):
    """``depth`` 3x3 convolutions with batch norm and ReLU, whose dilation doubles, and a 1x1 convolution.

    Shapes: (B, C, H, W) -> (B, num_outputs, H, W).

    Args:
        in_shape: (C, H, W).
        num_outputs: classes of a pixel.
        width: channels, >= 1.
        depth: number of 3x3 convolutions, >= 1.

    Raises:
        ValueError: the input is no image, or a setting is out of range.
    """

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, depth: int):
        super().__init__()
        check_value("model.width", width, Count)
        check_value("model.depth", depth, Count)
        if not isinstance(in_shape, tuple) or len(in_shape) != 3:
            raise ValueError(f"model=fcn takes images (C, H, W), and these inputs have shape {in_shape}.")
        sizes = [in_shape[0], *[width] * depth]
        layers: list[nn.Module] = []
        for i in range(depth):
            conv = nn.Conv2d(sizes[i], width, 3, padding=2**i, dilation=2**i, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, num_outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
