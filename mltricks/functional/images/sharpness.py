"""Sharpness: blend with the smoothed image. Legend: B batch, C channels, H height, W width."""

from __future__ import annotations

from torch import Tensor

from mltricks.functional.images.levels import as_pixels, over_pixels


def sharpness(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale the distance from the smoothed image by ``factor``, >= 0; 1 keeps the image.

    Images of fewer than 3 pixels a side stay as they are.

    Args:
        x: images, uint8 (B, C, H, W).
        factor_B: weight of the image against its smoothed version.
    """
    if min(x.shape[2:]) < 3:
        return x
    pixels = x.float()
    return as_pixels(pixels.addcmul(smooth(x).sub_(pixels), 1 - over_pixels(factor_B)))


def smooth(x: Tensor) -> Tensor:
    """PIL's SMOOTH filter, float32: weights 1, in the middle 5, divided by 13; pixels of the border stay as they are.

    Args:
        x: images, uint8 (B, C, H, W), at least 3 pixels a side.
    """
    sums = x.short()  # the largest sum is 13 x 255
    sums = sums[..., :-2] + sums[..., 1:-1] + sums[..., 2:]
    sums = sums[..., :-2, :] + sums[..., 1:-1, :] + sums[..., 2:, :]
    smoothed, (height, width) = x.float(), x.shape[2:]
    middle = smoothed[..., 1 : height - 1, 1 : width - 1]  # vmap knows no ends that count from behind
    middle.mul_(4).add_(sums).div_(13).round_()
    return smoothed
