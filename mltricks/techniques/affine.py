"""Affine augmentation: rotate, move, scale and shear every image by random amounts, with one resampling.

Source: ``torchvision.transforms.v2.RandomAffine``: the same draws and the same map, in which the image is sheared and
scaled and rotated about its centre, then moved by whole pixels. Bilinear resampling is the default here; torchvision's
is the nearest pixel.
Deviation: with ``fill`` above 0, bilinear pixels beside the border are a blend with it; torchvision blends twice.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) uint8, keep shape and type.
Cost: one resampling of the batch. Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from mltricks.config.values import Positive, Probability, Range
from mltricks.data.info import Info
from mltricks.functional.images import warps
from mltricks.functional.images.pixels import OnPixels


@dataclass(frozen=True)
class Affine(OnPixels):
    """One affine map for every image, each amount uniform.

    Args:
        degrees: largest angle to either side, in [0, 180].
        translate: largest move to any side, as a share of width and height, in [0, 1].
        min_scale, max_scale: bounds of the factor of the size, > 0.
        shear: largest shear along x to either side, in degrees, in [0, 90).
        interpolation: ``bilinear`` or ``nearest``.
        fill: value of what lies outside the image, 0 to 255.
    """

    degrees: Annotated[float, Range(0.0, 180.0)]
    translate: Probability
    min_scale: Positive
    max_scale: Positive
    shear: Annotated[float, Range(0.0, 90.0, below=True)]
    interpolation: Literal["bilinear", "nearest"]
    fill: Annotated[int, Range(0, 255)]

    colors = False
    needs_one_target = True

    def check(self, info: Info) -> None:
        super().check(info)
        if self.min_scale > self.max_scale:
            raise ValueError(
                f"technique.affine.min_scale={self.min_scale} is above max_scale={self.max_scale}. Type "
                f"technique.affine.min_scale={self.max_scale} or less."
            )

    def changed(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        size, *draws = torch.rand(5, len(x), device=x.device).unbind()
        turn, right, down, slant = (2 * draw - 1 for draw in draws)
        place = warps.affine(
            turn * self.degrees,
            (right * self.translate * width).round(),
            (down * self.translate * height).round(),
            self.min_scale + size * (self.max_scale - self.min_scale),
            slant * self.shear,
            torch.zeros_like(slant),
        )
        return warps.warp(x, place, self.fill, self.interpolation)
