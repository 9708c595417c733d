"""A small Inception network: convolutions of several sizes side by side, behind 1x1 convolutions that keep them cheap.

Source: Szegedy et al., "Going Deeper with Convolutions", 2014, arXiv:1409.4842, figure 2b and table 1; every module has
the proportions of inception (3a). Batch norm in place of auxiliary classifiers: Ioffe and Szegedy 2015,
arXiv:1502.03167.
Deviation: made for images of 28 to 32 pixels, so the stem keeps the size, and three stages of equal depth replace nine
modules.
Shapes: (B, C, H, W) -> (B, K).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.config.values import Count, check_value
from mltricks.models.layers import BASIC, IMAGES, Layers, num_features
from mltricks.models.squeeze_excite import SqueezeExcite

SWITCHES = (*BASIC, *IMAGES, "order", "pool", "pool_ratio", "head_pool", "depth")
NUM_STAGES = 3
UNIT = 16
"""Widths are multiples of it: the narrowest bottleneck has a sixteenth of a module's channels."""


class Inception(nn.Module):
    """A 3x3 convolution, three stages of ``depth`` modules with pooling between them, and a linear head.

    Args:
        in_shape: (C, H, W); H and W at least 4.
        num_outputs: K, width of the output.
        width: channels of the first stage, a multiple of 16; each further stage has twice as many.
        switches: see ``mltricks.models.layers``; gates of squeeze-and-excitation stand behind modules, ``depth`` counts
            the modules of a stage.

    Raises:
        ValueError: the input is no image or is too small, or a setting is out of range.
    """

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, **switches: Any):
        super().__init__()
        check_value("model.width", width, Count)
        if width % UNIT:
            fix = max(width // UNIT, 1) * UNIT
            raise ValueError(f"model.width={width} is no multiple of {UNIT}. Type model.width={fix}.")
        self.switches = layers = Layers.of("inception", SWITCHES, switches)
        smallest = 2 ** (NUM_STAGES - 1)
        if len(in_shape) != 3 or min(in_shape[1:]) < smallest:
            raise ValueError(
                f"model=inception needs images of at least {smallest}x{smallest} pixels; the data have shape "
                f"{tuple(in_shape)}. Type model=mlp, or model=transformer for tokens."
            )
        plain = replace(layers, squeeze_excite=None)
        made: list[nn.Module] = [nn.Sequential(*plain.convolution(in_shape[0], width, first=True))]
        channels = width
        for stage in range(NUM_STAGES):
            made += [layers.pooling()] if stage else []
            for _ in range(layers.depth):
                made.append(InceptionModule(layers, channels, width * 2**stage))
                channels = width * 2**stage
        self.features = nn.Sequential(*made)
        self.head = nn.Linear(num_features(self, self.features, in_shape, layers), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.switches.pooled(self.features(x)))


class InceptionModule(nn.Module):
    """1x1, 1x1 then 3x3, 1x1 then 5x5, and 3x3 max-pooling then 1x1, side by side; of W channels 4, 8, 2 and 2 in 16.

    Args:
        layers: the model's switches.
        channels_in: of the input.
        channels_out: W, a multiple of 16.
    """

    def __init__(self, layers: Layers, channels_in: int, channels_out: int):
        super().__init__()
        unit = channels_out // UNIT
        plain = replace(layers, squeeze_excite=None)

        def conv(i: int, o: int, side: int) -> list[nn.Module]:
            return plain.convolution(i, o, kernel_size=side, padding=side // 2)

        self.narrow = nn.Sequential(*conv(channels_in, 4 * unit, 1))
        self.middle = nn.Sequential(*conv(channels_in, 6 * unit, 1), *conv(6 * unit, 8 * unit, 3))
        self.wide = nn.Sequential(*conv(channels_in, unit, 1), *conv(unit, 2 * unit, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), *conv(channels_in, 2 * unit, 1))
        gates = layers.squeeze_excite
        self.gate = nn.Sequential() if gates is None else SqueezeExcite(channels_out, gates)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(torch.cat([self.narrow(x), self.middle(x), self.wide(x), self.pooled(x)], 1))
