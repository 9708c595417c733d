"""Shift the hue of images. Legend: B batch, H height, W width."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-20
"""Divisor of the grey pixels, whose spread is 0 and so is their difference."""


def shift_hue(x: Tensor, shift_B: Tensor) -> Tensor:
    """Add ``shift`` to the hue of every pixel in the HSV space, as torchvision's ``adjust_hue`` does.

    Args:
        x: RGB images, uint8 (B, 3, H, W).
        shift_B: in turns of the circle of colours, from -0.5 to 0.5.
    """
    return turned(x, shift_B).mul_(255.999 / 255).to(torch.uint8)  # torchvision's conversion: equal shares of values


def turned(x: Tensor, shift_B: Tensor) -> Tensor:
    """``shift_hue`` before its values are made whole, float32.

    With the hue in sixths of the circle, a channel is value - spread * d, where d rises from 0 to 1 with the distance
    of the hue from the channel's own colour, and spread is saturation * value.

    Args:
        x: RGB images (B, 3, H, W), uint8, or float32 of any scale.
        shift_B: in turns of the circle of colours, from -0.5 to 0.5.
    """
    hue, spread, value = hue_spread_value(x)
    hue = hue.add_(6 * shift_B[:, None, None]).remainder_(6)
    depths = (2 - (hue - 3).abs_(), (hue - 2).abs_() - 1, (hue - 4).abs_() - 1)
    return torch.stack([value - depth.clamp_(0, 1).mul_(spread) for depth in depths], 1)


def hue_spread_value(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in sixths of the circle from -1 to 5, largest less smallest channel, and largest channel: three of (B, H, W).

    Args:
        x: RGB images (B, 3, H, W), uint8, or float32 of any scale.
    """
    red, green, blue = x.float().unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    spread = high - torch.minimum(torch.minimum(red, green), blue)
    is_red, is_green = high == red, high == green
    difference = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    start = torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0))
    return start.addcdiv_(difference, spread.clamp(min=TINY)), spread, high
