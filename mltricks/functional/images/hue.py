"""Shift the hue of images in the HSV space. Legend: B batch, H height, W width."""

from __future__ import annotations

import torch
from torch import Tensor


def shift_hue(x: Tensor, shift_B: Tensor) -> Tensor:
    """Add ``shift`` to the hue of every pixel, as ``torchvision.transforms.v2.functional.adjust_hue`` does.

    Args:
        x: RGB images, uint8 (B, 3, H, W).
        shift_B: in turns of the circle of colours, from -0.5 to 0.5.
    """
    hue, saturation, value = to_hsv(x / 255)
    shifted = to_rgb(hue + shift_B[:, None, None], saturation, value)
    return (shifted * 255.999).to(torch.uint8)  # torchvision's conversion: every value of a pixel gets an equal share


def to_hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in turns, not reduced to [0, 1), saturation and value of RGB in [0, 1]: three of (B, H, W)."""
    red, green, blue = x.unbind(1)
    low, high = x.aminmax(dim=1)
    spread = high - low
    safe = torch.where(spread == 0, 1.0, spread)  # grey: every difference below is 0
    sixths = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return sixths / 6, spread / torch.where(high == 0, 1.0, high), high


def to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB in [0, 1], (B, 3, H, W); the hue may be any number of turns.

    A channel is value * (1 - saturation * d), where d falls from 1 to 0 and rises again with the hue's distance from
    the channel's own colour.
    """
    depth = value * saturation
    channels = []
    for start in (5, 3, 1):
        sixth = (hue * 6 + start).remainder(6)
        channels.append(value - depth * torch.minimum(sixth, 4 - sixth).clamp(0, 1))
    return torch.stack(channels, 1)
