"""The networks of the CIFAR-10 speed records of 93, 94, 95 and 96 percent.

Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv:2404.00498, section 3.1 and appendix A;
layer by layer as in https://github.com/KellerJordan/cifar10-airbench (airbench/lib_airbench93.py to 96.py).
Deviation: the last pooling takes the maximum over all remaining positions (the source's 3x3 pooling for 32x32 images);
the source's initialisation is ``init=whitening init.rest=dirac`` apart from this model.
Shapes: (B, C, H, W) -> (B, K).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from mltricks.config.values import Count, Positive, check_value
from mltricks.models.layers import BASIC, IMAGES, Layers, num_features
from mltricks.models.residual import Residual

NORMS = ("norm_momentum", "norm_eps")
SWITCHES = (*BASIC, *NORMS, *IMAGES, "order", "pool", "pool_ratio", "head_pool", "residual", "depth", "whiten")


class Airbench(nn.Module):
    """A convolution for whitening, three groups of convolutions that halve the image, and a linear head.

    Args:
        in_shape: (C, H, W); H and W at least 7 + ``whiten``.
        num_outputs: K, width of the output.
        width: unit of the channels.
        ratios: channels of the three groups in multiples of ``width``.
        logit_scale: factor of the output, > 0.
        switches: see ``mltricks.models.layers``. ``depth`` counts the convolutions of a group; with ``residual``, those
            behind the first are added to its output, before the group's last activation. ``whiten`` is the side of the
            kernels of the first convolution, which has twice as many channels as a patch has numbers; ``glu`` leaves
            half of them.

    Raises:
        ValueError: the input is no image or is too small, or a setting is out of range.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        num_outputs: int,
        width: int,
        ratios: Sequence[int],
        logit_scale: float,
        **switches: Any,
    ):
        super().__init__()
        check_value("model.width", width, Count)
        check_value("model.ratios", ratios, tuple[Count, Count, Count])
        check_value("model.logit_scale", logit_scale, Positive)
        self.switches = layers = Layers.of("airbench", SWITCHES, switches)
        side = layers.whiten
        check_value("model.whiten", side, Count)
        if len(in_shape) != 3 or min(in_shape[1:]) < 7 + side:
            raise ValueError(
                f"model=airbench needs images of at least {7 + side}x{7 + side} pixels; the data have shape "
                f"{tuple(in_shape)}. Type model=resnet9 for smaller images, model=mlp for others."
            )
        check_residual(layers)
        channels = 2 * side**2 * in_shape[0]
        self.logit_scale = logit_scale
        self.whiten = nn.Conv2d(in_shape[0], channels, side)
        self.act = layers.act()
        sizes = [channels // layers.fan, *(width * ratio for ratio in ratios)]
        self.groups = nn.Sequential(*(group(layers, sizes[i], sizes[i + 1], first=i == 0) for i in range(3)))
        self.head = nn.Linear(num_features(self, self.features, in_shape, layers), num_outputs, bias=False)

    def features(self, x: Tensor) -> Tensor:
        """The feature map in front of the head."""
        return self.groups(self.act(self.whiten(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.switches.pooled(self.features(x))) * self.logit_scale


def group(layers: Layers, channels_in: int, channels_out: int, first: bool) -> nn.Sequential:
    """The convolutions of one group; the first one halves the image, the last one is gated by ``squeeze_excite``."""
    plain = replace(layers, squeeze_excite=None)
    kinds = [*[plain] * (layers.depth - 1), layers]
    made = kinds[0].convolution(channels_in, channels_out, pool=True, first=first)
    if not layers.residual:
        rest = [kind.convolution(channels_out, channels_out) for kind in kinds[1:]]
        return nn.Sequential(*made, *(part for parts in rest for part in parts))
    branch = [part for kind in kinds[1:-1] for part in kind.convolution(channels_out, channels_out)]
    branch += layers.convolution(channels_out, channels_out, act=False)
    return nn.Sequential(*made, Residual(nn.Sequential(*branch)), layers.act())


def check_residual(layers: Layers) -> None:
    """Refuse a residual group of one convolution, and an activation that would halve the sum."""
    if layers.residual and layers.depth == 1:
        raise ValueError(
            "model.residual=true adds the convolutions of a group behind the first, and model.depth=1 has none. "
            "Type model.depth=2."
        )
    if layers.residual and layers.fan != 1:
        raise ValueError(
            "model.activation=glu halves channels, and with model.residual=true the activation comes behind the sum. "
            "Type model.residual=false."
        )
