"""ResNet-9: the small residual network that trains CIFAR-10 in seconds.

Source: Page, "How to Train Your ResNet", 2018-2019, myrtle.ai, post 4 onwards (the DAWNBench entry).
Deviation: the last pooling takes the maximum over all remaining positions (the source's 4x4 pooling for 32x32 images);
the scale of the logits multiplies the head's input, which is the same since the head has no bias.
On a plain background batch norm subtracts numbers that are nearly equal, and rounding decides on which side of a ReLU
the background falls: there engines and stacks, whose sums round otherwise, part by 1e-2 within tens of steps.
Shapes: (B, C, H, W) -> (B, K).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mltricks.config.values import Count, Positive, check_value
from mltricks.models.residual import Residual


class ResNet9(nn.Module):
    """A convolution; three stages that double channels and halve the image (residual in the first and last); a head.

    Args:
        in_shape: (C, H, W); H and W at least 8.
        num_outputs: K, width of the output.
        width: channels of the first convolution; the last has eight times as many.
        logit_scale: factor of the output.
        pool: the pooling that halves the image, ``max`` or ``mean``.

    Raises:
        ValueError: the input is no image or is too small, or a setting is out of range.
    """

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, logit_scale: float, pool: str):
        super().__init__()
        check_value("model.width", width, Count)
        check_value("model.logit_scale", logit_scale, Positive)
        check_value("model.pool", pool, Literal["max", "mean"])
        if len(in_shape) != 3 or min(in_shape[1:]) < 8:
            raise ValueError(
                f"model=resnet9 needs images of at least 8x8 pixels; the data have shape {tuple(in_shape)}. "
                "Type model=mlp, or model=transformer for tokens."
            )
        self.logit_scale = logit_scale
        self.prep = convolution(in_shape[0], width)
        self.layer1 = nn.Sequential(convolution(width, 2 * width, pool), residual(2 * width))
        self.layer2 = convolution(2 * width, 4 * width, pool)
        self.layer3 = nn.Sequential(convolution(4 * width, 8 * width, pool), residual(8 * width))
        self.head = nn.Linear(8 * width, num_outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.prep(x))))
        # amax rather than adaptive max-pooling, whose gradient is not deterministic on CUDA
        return self.head(x.amax((2, 3)) * self.logit_scale)


def convolution(channels_in: int, channels_out: int, pool: str | None = None) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU and, where ``pool`` names one, 2x2 pooling."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]
    if pool is not None:
        layers.append(nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2))
    return nn.Sequential(*layers)


def residual(channels: int) -> Residual:
    """A residual block of two convolutions."""
    return Residual(nn.Sequential(convolution(channels, channels), convolution(channels, channels)))
