"""Random views of normalised images as tensor operations: one draw per sample, shapes independent of the draw.

Legend: B batch, C channels, H height, W width. Images are float32 (B, C, H, W); 0 is the training mean.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(x: Tensor, low: float, high: float, *shape: int) -> Tensor:
    """One uniform draw per sample from [low, high), shape (B, *shape)."""
    return torch.rand(len(x), *shape, device=x.device) * (high - low) + low


def warp(x: Tensor, matrix_B22: Tensor, shift_B2: Tensor, padding: str = "zeros") -> Tensor:
    """Resample bilinearly: every pixel of the result is read at matrix @ position + shift.

    Args:
        x: images.
        matrix_B22, shift_B2: positions are (horizontal, vertical), from -1 to 1 over the image.
        padding: values outside the image, ``zeros`` (the mean) or ``border`` (the nearest pixel).
    """
    height, width = x.shape[-2:]
    across, down = centres(width, x), centres(height, x)
    columns = across.unsqueeze(0).expand(height, width)
    rows = down.unsqueeze(1).expand(height, width)
    base_HW2 = torch.stack([columns, rows], -1)
    grid_BHW2 = torch.einsum("bij,hwj->bhwi", matrix_B22, base_HW2) + shift_B2[:, None, None]
    return F.grid_sample(x, grid_BHW2, mode="bilinear", padding_mode=padding, align_corners=False)


def centres(size: int, x: Tensor) -> Tensor:
    """Positions of the centres of ``size`` pixels in [-1, 1], (size,).

    >>> centres(2, torch.zeros(1))
    tensor([-0.5000,  0.5000])
    """
    return (torch.arange(size, device=x.device, dtype=torch.float32) * 2 + 1) / size - 1


def diagonal(horizontal_B: Tensor, vertical_B: Tensor) -> Tensor:
    """Scaling matrices, (B, 2, 2)."""
    return torch.diag_embed(torch.stack([horizontal_B, vertical_B], -1))


def signs(x: Tensor) -> Tensor:
    """-1 or 1 with equal probability for every sample, (B,)."""
    return (torch.rand(len(x), device=x.device) < 0.5).float() * 2 - 1


def resized_crop(x: Tensor, min_scale: float | Tensor, flip: bool) -> Tensor:
    """Crop a random rectangle and resize it to the whole image; with ``flip``, mirror half of the samples.

    Args:
        x: images.
        min_scale: smallest share of the image's area; the share is uniform up to 1, the aspect log-uniform from
            3/4 to 4/3.
        flip: whether half of the samples are mirrored left to right.
    """
    area = uniform(x, 0.0, 1.0) * (1 - min_scale) + min_scale
    aspect = uniform(x, -math.log(4 / 3), math.log(4 / 3)).exp()
    width, height = (area * aspect).sqrt().clamp(max=1.0), (area / aspect).sqrt().clamp(max=1.0)
    place = uniform(x, -1.0, 1.0, 2) * (1 - torch.stack([width, height], -1))
    return warp(x, diagonal(width * signs(x) if flip else width, height), place, "border")


def color_jitter(x: Tensor, strength: float | Tensor) -> Tensor:
    """Change brightness, contrast and saturation, each by a factor uniform in [1 - strength, 1 + strength).

    The brightness factor acts on normalised images as a shift by (factor - 1) standard deviations.
    """
    brightness, contrast, saturation = (uniform(x, -1.0, 1.0, 1, 1, 1) * strength for _ in range(3))
    return adjust(x, brightness, contrast, saturation)


def adjust(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Change brightness, contrast and saturation by the given amounts; 0 changes nothing."""
    x = x + brightness
    x = x + contrast * (x - x.mean((1, 2, 3), keepdim=True))
    return x + saturation * (x - x.mean(1, keepdim=True))


def blur(x: Tensor, sigma_B: Tensor) -> Tensor:
    """Blur with a Gaussian whose kernel covers about a tenth of the image's height, at least 3 pixels.

    Args:
        x: images; H and W at least 2.
        sigma_B: standard deviation in pixels, > 0.
    """
    radius = max(1, x.shape[2] // 10 // 2)
    away = torch.arange(-radius, radius + 1, device=x.device)
    weight_BK = (-0.5 * (away / sigma_B[:, None]).square()).exp()
    weight_BK = weight_BK / weight_BK.sum(1, keepdim=True)
    for axis, margins in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        size, padded = x.shape[axis], F.pad(x, margins, mode="reflect")
        parts = [padded.narrow(axis, k, size) * w[:, None, None, None] for k, w in enumerate(weight_BK.unbind(1))]
        x = torch.stack(parts).sum(0)
    return x


def flip_and_shift(x: Tensor, max_shift: float | Tensor, flip: bool) -> Tensor:
    """Shift by whole pixels, up to ``max_shift`` of the side, with reflected borders; with ``flip``, mirror half.

    Args:
        x: images.
        max_shift: in [0, 0.5].
        flip: whether half of the samples are mirrored left to right.
    """
    mirrored = (signs(x) < 0) if flip else torch.zeros(len(x), dtype=torch.bool, device=x.device)
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    for axis in (2, 3):
        size = x.shape[axis]
        moved = torch.arange(size, device=x.device) + shifts(x, max_shift, size).unsqueeze(1)
        index = (size - 1) - ((size - 1) - moved.abs()).abs()  # reflect at 0, then at size - 1
        index = index[:, None, :, None] if axis == 2 else index[:, None, None, :]
        x = x.gather(axis, index.expand_as(x))
    return x


def shifts(x: Tensor, max_shift: float | Tensor, size: int) -> Tensor:
    """Whole pixels, uniform in [-n, n] with n the nearest to ``max_shift * size``, (B,) int64."""
    reach = (torch.as_tensor(max_shift, device=x.device) * size).round()
    return ((torch.rand(len(x), device=x.device) * (2 * reach + 1)).floor() - reach).long()
