"""Geometric operations: an inverse affine map for every sample, and one resampling.

A map, (B, 2, 3), says where in the old image a pixel of the new one is read: at map @ (x, y, 1). Places are in pixels
from the centre of the image, x to the right and y down. Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shear_x(slope_B: Tensor, height: int, width: int) -> Tensor:
    """Read every pixel at (x + slope y, y), counted from the upper left corner, as PIL and RandAugment define it."""
    one, zero = torch.ones_like(slope_B), torch.zeros_like(slope_B)
    return as_maps([one, slope_B, slope_B * (height / 2), zero, one, zero])


def shear_y(slope_B: Tensor, height: int, width: int) -> Tensor:
    """Read every pixel at (x, y + slope x), counted from the upper left corner."""
    one, zero = torch.ones_like(slope_B), torch.zeros_like(slope_B)
    return as_maps([one, zero, zero, slope_B, one, slope_B * (width / 2)])


def translate_x(pixels_B: Tensor, height: int, width: int) -> Tensor:
    """Move the image to the right."""
    one, zero = torch.ones_like(pixels_B), torch.zeros_like(pixels_B)
    return as_maps([one, zero, -pixels_B, zero, one, zero])


def translate_y(pixels_B: Tensor, height: int, width: int) -> Tensor:
    """Move the image down."""
    one, zero = torch.ones_like(pixels_B), torch.zeros_like(pixels_B)
    return as_maps([one, zero, zero, zero, one, -pixels_B])


def rotate(degrees_B: Tensor, height: int, width: int) -> Tensor:
    """Rotate about the centre, counter-clockwise for positive angles."""
    angle = degrees_B.deg2rad()
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return as_maps([cos, -sin, zero, sin, cos, zero])


def affine(
    degrees_B: Tensor, right_B: Tensor, down_B: Tensor, scale_B: Tensor, shear_x_B: Tensor, shear_y_B: Tensor
) -> Tensor:
    """The map of ``torchvision.transforms.v2.functional.affine``.

    The image is sheared, scaled and rotated about its centre, then moved.

    Args:
        degrees_B: angle, clockwise.
        right_B, down_B: pixels.
        scale_B: factor of the size, > 0.
        shear_x_B, shear_y_B: angles of the shears in degrees.
    """
    turn, across, down = (v.deg2rad() for v in (degrees_B, shear_x_B, shear_y_B))
    a, c = ((turn - down).cos() / down.cos(), (turn - down).sin() / down.cos())
    b, d = -(a * across.tan() + turn.sin()), turn.cos() - c * across.tan()
    across_x, across_y, down_x, down_y = d / scale_B, -b / scale_B, -c / scale_B, a / scale_B
    shift = -(across_x * right_B + across_y * down_B), -(down_x * right_B + down_y * down_B)
    return as_maps([across_x, across_y, shift[0], down_x, down_y, shift[1]])


def as_maps(rows: list[Tensor]) -> Tensor:
    """Six numbers (B,), row by row, as (B, 2, 3)."""
    return torch.stack(rows, -1).unflatten(-1, (2, 3))


def warp(x: Tensor, map_B23: Tensor, fill: int, interpolation: str) -> Tensor:
    """Resample images.

    Args:
        x: images, uint8 (B, C, H, W).
        map_B23: where every pixel is read.
        fill: value of what lies outside the image, 0 to 255; ``bilinear`` blends it with the pixels of the border.
        interpolation: ``nearest`` or ``bilinear``.
    """
    across, down = places(map_B23, *x.shape[2:])
    return nearest(x, across, down, fill) if interpolation == "nearest" else bilinear(x, across, down, fill)


def places(map_B23: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where every pixel is read, in half-sides from the centre: columns and rows, each (B, H, W).

    The steps are those of torchvision's matrix product on a CPU, so that most places in the middle between two pixels
    round as there; and a product could run in TF32, which is too coarse for places.
    """
    x = torch.arange(width, device=map_B23.device) - (width - 1) / 2
    y = (torch.arange(height, device=map_B23.device) - (height - 1) / 2)[:, None]
    halves = ((map_B23[:, i, :, None, None] / (side / 2)).unbind(1) for i, side in enumerate((width, height)))
    across, down = (torch.addcmul(x * a, y, b).add_(c) for a, b, c in halves)
    return across, down


def nearest(x: Tensor, across: Tensor, down: Tensor, fill: int) -> Tensor:
    """The pixel nearest to each place."""
    height, width = x.shape[2:]
    column = ((across + 1) * (width / 2) - 0.5).round_()
    row = ((down + 1) * (height / 2) - 0.5).round_()
    inside = (column == column.clamp(0, width - 1)) & (row == row.clamp(0, height - 1))
    index = torch.where(inside, row.mul_(width).add_(column), height * width).flatten(1).long()
    pixels = F.pad(x.flatten(2), (0, 1), value=fill)
    return pixels.gather(2, index[:, None].expand(-1, x.shape[1], -1)).view(x.shape)


def bilinear(x: Tensor, across: Tensor, down: Tensor, fill: int) -> Tensor:
    """A blend of the four pixels around each place."""
    grid = torch.stack([across, down], -1)
    pixels = x.float() if fill == 0 else x.float() - fill  # what lies outside is 0 to ``grid_sample``
    found = F.grid_sample(pixels, grid, "bilinear", "zeros", align_corners=False)
    return (found if fill == 0 else found + fill).round_().to(torch.uint8)
