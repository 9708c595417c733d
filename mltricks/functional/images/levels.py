"""Operations on the values of single pixels. Legend: B batch, C channels, H height, W width, V = 256 values."""

from __future__ import annotations

import torch
from torch import Tensor

NUM_VALUES = 256


def brightness(x: Tensor, factor_B: Tensor) -> Tensor:
    """Multiply by ``factor``, >= 0; 1 keeps the image."""
    return as_pixels(x * over_pixels(factor_B))


def contrast(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale the distance from the mean of the grey image by ``factor``, >= 0; 1 keeps the image."""
    factor = over_pixels(factor_B)
    return as_pixels((x * factor).addcmul_(grey(x).mean((1, 2, 3), keepdim=True), 1 - factor))


def saturation(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale the distance from the grey image by ``factor``, >= 0; 1 keeps the image. Grey images stay as they are."""
    if x.shape[1] == 1:
        return x
    factor = over_pixels(factor_B)
    return as_pixels((x * factor).addcmul_(grey(x), 1 - factor))


def posterize(x: Tensor, bits_B: Tensor) -> Tensor:
    """Keep the highest ``bits`` of 8 bits, whole numbers from 0 to 8.

    >>> posterize(torch.tensor([[[[63, 64, 200]]]], dtype=torch.uint8), torch.tensor([2.0])).flatten().tolist()
    [0, 64, 192]
    """
    return x & over_pixels(256 - 2.0 ** (8 - bits_B)).to(torch.uint8)


def solarize(x: Tensor, threshold_B: Tensor) -> Tensor:
    """Invert the values from ``threshold`` on.

    >>> solarize(torch.tensor([[[[249, 250, 255]]]], dtype=torch.uint8), torch.tensor([250.0])).flatten().tolist()
    [249, 5, 0]
    """
    return torch.where(x >= over_pixels(threshold_B), 255 - x, x)


def solarize_add(x: Tensor, addition_B: Tensor) -> Tensor:
    """Add ``addition`` to the values below 128, and cut at 255.

    >>> solarize_add(torch.tensor([[[[27, 127, 128]]]], dtype=torch.uint8), torch.tensor([140.0])).flatten().tolist()
    [167, 255, 128]
    """
    return as_pixels(x + (x < 128) * over_pixels(addition_B))


def invert(x: Tensor) -> Tensor:
    """255 - value."""
    return 255 - x


def autocontrast(x: Tensor) -> Tensor:
    """Stretch the values of every channel to 0 to 255; a channel of one value stays as it is."""
    low, high = x.amin((2, 3), keepdim=True).float(), x.amax((2, 3), keepdim=True).float()
    flat = low == high
    low, scale = torch.where(flat, 0.0, low), torch.where(flat, 1.0, (high - low) * (1 / 255))
    return as_pixels((x - low).div_(scale))


def equalize(x: Tensor) -> Tensor:
    """Make the values of every channel about equally frequent.

    PIL's arithmetic: a value becomes (number of pixels below it + step // 2) // step, where ``step`` is the 255th part
    of the number of pixels below the largest value. A channel with fewer than 255 of these stays as it is.
    """
    index_BCN = x.flatten(2).long()
    count_BCV = torch.zeros(*x.shape[:2], NUM_VALUES, dtype=torch.int32, device=x.device)
    count_BCV.scatter_add_(2, index_BCN, torch.ones_like(index_BCN, dtype=torch.int32))
    step = (index_BCN.shape[2] - count_BCV.gather(2, index_BCN.amax(2, keepdim=True))) // 255
    below_BCV = count_BCV.cumsum(2, dtype=torch.int32) - count_BCV
    table_BCV = ((below_BCV + step // 2) // step.clamp(min=1)).clamp(max=255)
    table_BCV = torch.where(step > 0, table_BCV, torch.arange(NUM_VALUES, dtype=torch.int32, device=x.device))
    return table_BCV.to(torch.uint8).gather(2, index_BCN).view(x.shape)


def grey(x: Tensor) -> Tensor:
    """0.2989 red + 0.587 green + 0.114 blue, in whole numbers rounded down: (B, 1, H, W) float32.

    Args:
        x: images, uint8 (B, C, H, W); one channel is grey already.
    """
    if x.shape[1] == 1:
        return x.float()
    red, green, blue = x.split(1, 1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def over_pixels(v_B: Tensor) -> Tensor:
    """One number per image, as (B, 1, 1, 1)."""
    return v_B[:, None, None, None]


def as_pixels(x: Tensor) -> Tensor:
    """Cut to whole numbers from 0 to 255, towards zero, as torchvision does: uint8. Overwrites ``x``."""
    return x.clamp_(0, 255).to(torch.uint8)
