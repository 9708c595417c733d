"""ResNet-9: the small residual network that trains CIFAR-10 in seconds.

Source: Page, "How to Train Your ResNet", 2018-2019, myrtle.ai, post 4 onwards (the DAWNBench entry).
Deviation: the last pooling takes the maximum over all remaining positions (the source's 4x4 pooling for 32x32 images);
the scale of the logits multiplies the head's input, which is the same since the head has no bias.
On a plain background batch norm subtracts numbers that are nearly equal, and rounding decides on which side of a ReLU
the background falls: there engines and stacks, whose sums round otherwise, part by 1e-2 within tens of steps.
Shapes: (B, C, H, W) -> (B, K).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from mltricks.config.values import Count, Positive, check_value
from mltricks.models.layers import BASIC, IMAGES, Layers, num_features

SWITCHES = (*BASIC, *IMAGES, "order", "pool_ratio", "head_pool", "residual", "whiten")


class ResNet9(nn.Module):
    """A convolution; three stages that double channels and halve the image (residual in the first and last); a head.

    Args:
        in_shape: (C, H, W); H and W at least 8.
        num_outputs: K, width of the output.
        width: channels of the first convolution; the last has eight times as many.
        logit_scale: factor of the output.
        pool: the pooling that halves the image, ``max``, ``mean`` or ``fractional``.
        switches: see ``mltricks.models.layers``; gates of squeeze-and-excitation stand at the end of residual branches.
            ``whiten`` is the side k of the kernels of a first layer of k^2 C channels without norm and activation; 0
            for none.

    Raises:
        ValueError: the input is no image or is too small, or a setting is out of range.
    """

    def __init__(
        self, in_shape: tuple[int, ...], num_outputs: int, width: int, logit_scale: float, pool: str, **switches: Any
    ):
        super().__init__()
        check_value("model.width", width, Count)
        check_value("model.logit_scale", logit_scale, Positive)
        layers = Layers.of("resnet9", ("pool", *SWITCHES), {"pool": pool, **switches})
        if len(in_shape) != 3 or min(in_shape[1:]) < 8:
            raise ValueError(
                f"model=resnet9 needs images of at least 8x8 pixels; the data have shape {tuple(in_shape)}. "
                "Type model=mlp, or model=transformer for tokens."
            )
        self.logit_scale, self.switches = logit_scale, layers
        plain = replace(layers, squeeze_excite=None)
        channels = in_shape[0]
        first: dict[str, Any] = {}
        if side := layers.whiten:
            self.whiten = nn.Conv2d(channels, side**2 * channels, side, padding=side // 2, bias=False)
            channels, first = side**2 * channels, {"kernel_size": 1, "padding": 0}
        self.prep = nn.Sequential(*plain.convolution(channels, width, first=True, **first))
        self.layer1 = nn.Sequential(stage(plain, width, 2 * width), residual(layers, 2 * width))
        self.layer2 = stage(plain, 2 * width, 4 * width)
        self.layer3 = nn.Sequential(stage(plain, 4 * width, 8 * width), residual(layers, 8 * width))
        self.head = nn.Linear(self.num_features(in_shape, 8 * width), num_outputs, bias=False)

    def num_features(self, in_shape: tuple[int, ...], channels: int) -> int:
        """How many features the head sees."""
        if self.switches.head_pool == "flatten":
            return num_features(self, self.features, in_shape, self.switches)
        return channels * (2 if self.switches.head_pool == "both" else 1)

    def features(self, x: Tensor) -> Tensor:
        """The feature map in front of the head, (B, 8 width, H / 8, W / 8)."""
        x = self.whiten(x) if hasattr(self, "whiten") else x
        return self.layer3(self.layer2(self.layer1(self.prep(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.switches.pooled(self.features(x)) * self.logit_scale)


def stage(layers: Layers, channels_in: int, channels_out: int) -> nn.Sequential:
    """A convolution block that halves the image."""
    return nn.Sequential(*layers.convolution(channels_in, channels_out, pool=True))


def residual(layers: Layers, channels: int) -> nn.Module:
    """A residual block of two convolutions."""
    first = replace(layers, squeeze_excite=None).convolution(channels, channels)
    return layers.branch(nn.Sequential(nn.Sequential(*first), nn.Sequential(*layers.convolution(channels, channels))))
