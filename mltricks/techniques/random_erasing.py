"""Random erasing: fill a random rectangle of some images with noise or with the mean colour.

Source: Zhong, Zheng, Kang, Li, Yang, "Random Erasing Data Augmentation", 2020, arXiv:1708.04896, algorithm 1; places
and sizes as in ``torchvision.transforms.RandomErasing``: of ten candidates the first that fits, else no rectangle.
Deviation: the aspect is log-uniform, as in torchvision and timm, so that a rectangle lies as often as it stands; the
authors' code draws it uniformly, which gives upright rectangles more often, and tries up to a hundred candidates.
``noise`` is standard normal on normalised images, as in timm; the paper draws pixels uniformly from 0 to 255.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) float, keep shape and type.
Cost: one masked copy of the batch, and a normal draw for every pixel with ``noise``.
Legend: B batch, C channels, H height, W width, T candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mltricks.batch import INPUTS, Batch
from mltricks.config.values import Fraction, Probability
from mltricks.functional.boxes import first_fit, places
from mltricks.technique import Ctx, Technique

CANDIDATES = 10


@dataclass(frozen=True)
class RandomErasing(Technique):
    """With probability ``p``, fill a rectangle that covers a random share of the image.

    Args:
        p: probability for every image, in [0, 1].
        min_area, max_area: range of the share of the area, each in (0, 1].
        min_aspect: smallest height over width, in (0, 1]; the largest is its reciprocal.
        fill: ``noise`` (standard normal, pixel by pixel) or ``mean`` (0, the mean colour).

    Raises:
        ValueError: ``min_area`` is above ``max_area``.
    """

    p: Probability
    min_area: Fraction
    max_area: Fraction
    min_aspect: Fraction
    fill: Literal["noise", "mean"]

    kinds = ("image",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_area > self.max_area:
            raise ValueError(
                f"technique.random_erasing.min_area={self.min_area} is above max_area={self.max_area}. "
                f"Type technique.random_erasing.min_area={self.max_area} or less."
            )

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        return {**batch, **{key: self._erased(batch[key]) for key in INPUTS if key in batch}}

    def _erased(self, x: Tensor) -> Tensor:
        draws_BT = torch.rand(2, len(x), CANDIDATES, device=x.device)
        area_BT = self.min_area + (self.max_area - self.min_area) * draws_BT[0]
        aspect_BT = torch.as_tensor(self.min_aspect, device=x.device) ** (1 - 2 * draws_BT[1])
        mask = rectangles(x, area_BT, aspect_BT, torch.rand(2, len(x), device=x.device))
        mask = mask & (torch.rand(len(x), 1, 1, 1, device=x.device) < self.p)
        mask, pixels = mask.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)  # where would lose the layout of one channel
        fill = torch.randn_like(pixels) if self.fill == "noise" else 0.0
        return torch.where(mask, fill, pixels).permute(0, 3, 1, 2)


def rectangles(x: Tensor, area_BT: Tensor, aspect_BT: Tensor, place_2B: Tensor) -> Tensor:
    """The masks of the first candidates that fit into the images, (B, 1, H, W) bool.

    Args:
        x: images (B, C, H, W).
        area_BT: shares of the image's area.
        aspect_BT: height over width.
        place_2B: vertical and horizontal place of the rectangle, in [0, 1).
    """
    height, width = x.shape[2:]
    area_BT = area_BT * (height * width)
    rows_BT, columns_BT = (area_BT * aspect_BT).sqrt().round(), (area_BT / aspect_BT).sqrt().round()
    fits_BT = (rows_BT < height) & (columns_BT < width)
    rows, columns = first_fit(fits_BT, rows_BT, columns_BT)
    down, across = _span(rows, height, place_2B[0]), _span(columns, width, place_2B[1])
    mask = down[:, :, None] & across[:, None, :] & fits_BT.any(1)[:, None, None]
    return mask.unsqueeze(1)


def _span(length: Tensor, side: int, share: Tensor) -> Tensor:
    """(B, side) bool: ``length`` positions, from a random one on."""
    first = places(length, side, share)[:, None]
    position = torch.arange(side, device=length.device)
    return (position >= first) & (position < first + length[:, None])
