"""A small convolutional network: two convolutions and a linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mltricks.config.values import Count, check_value


class ConvNet(nn.Module):
    """Two times 3x3 convolution, ReLU and 2x2 max-pooling; then a linear head on the flattened features.

    Shapes: (B, C, H, W) -> (B, num_outputs).

    Args:
        in_shape: (C, H, W); H and W at least 4.
        num_outputs: width of the output.
        width: channels of the first convolution, >= 1; the second has twice as many.

    Raises:
        ValueError: the input is no image or is too small, or the width is out of range.
    """

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int):
        super().__init__()
        check_value("model.width", width, Count)
        if len(in_shape) != 3 or min(in_shape[1:]) < 4:
            raise ValueError(
                f"model=convnet needs images of at least 4x4 pixels; the data have shape {tuple(in_shape)}. "
                "Type model=mlp, or model=transformer for tokens."
            )
        self.features = nn.Sequential(
            nn.Conv2d(in_shape[0], width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        with torch.no_grad():
            num_features = self.features(torch.zeros(1, *in_shape)).numel()
        self.head = nn.Linear(num_features, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))
