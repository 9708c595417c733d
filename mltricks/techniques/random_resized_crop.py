"""Random resized crop: cut out a random rectangle of every image and resize it to the whole image.

Source: Szegedy et al., "Going Deeper with Convolutions", 2015, arXiv:1409.4842, section 6, with the draws of
``torchvision.transforms.RandomResizedCrop``: of ten candidates the first that fits into the image, else the largest
central crop whose aspect is allowed. Pixels are resized bilinearly within the crop, equal to torchvision's; a crop is
never larger than the image, so antialiasing, which torchvision does by default, would change nothing.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) float, keep shape and type.
Cost: four gathered copies of the batch. Legend: B batch, C channels, H height, W width, T candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.batch import INPUTS, Batch
from mltricks.config.values import Fraction, Positive
from mltricks.functional.boxes import first_fit, places
from mltricks.technique import Ctx, Technique

CANDIDATES = 10


@dataclass(frozen=True)
class RandomResizedCrop(Technique):
    """A crop with a uniform share of the area and a log-uniform aspect, at a random place.

    Args:
        min_scale, max_scale: range of the share of the image's area, each in (0, 1].
        min_ratio, max_ratio: range of width over height, > 0.

    Raises:
        ValueError: the ends of a range are in the wrong order.
    """

    min_scale: Fraction
    max_scale: Fraction
    min_ratio: Positive
    max_ratio: Positive

    kinds = ("image",)
    needs_one_target = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scale", "ratio"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise ValueError(
                    f"technique.random_resized_crop.min_{name}={low} is above max_{name}={high}. "
                    f"Type technique.random_resized_crop.min_{name}={high} or less."
                )

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        return {**batch, **{key: self._cropped(batch[key]) for key in INPUTS if key in batch}}

    def _cropped(self, x: Tensor) -> Tensor:
        scale_BT, share_BT = torch.rand(2, len(x), CANDIDATES, device=x.device)
        scale_BT = self.min_scale + (self.max_scale - self.min_scale) * scale_BT
        low, high = (torch.as_tensor(r, device=x.device).log() for r in (self.min_ratio, self.max_ratio))
        ratio_BT = (low + (high - low) * share_BT).exp()
        boxes = self.boxes(x, scale_BT, ratio_BT, torch.rand(2, len(x), device=x.device))
        return resized_boxes(x, *boxes)

    def boxes(self, x: Tensor, scale_BT: Tensor, ratio_BT: Tensor, place_2B: Tensor) -> tuple[Tensor, ...]:
        """Top, left, height and width of every crop, (B,) float each."""
        height, width = x.shape[2:]
        area_BT = scale_BT * (height * width)
        columns_BT, rows_BT = (area_BT * ratio_BT).sqrt().round(), (area_BT / ratio_BT).sqrt().round()
        fits_BT = (columns_BT > 0) & (columns_BT <= width) & (rows_BT > 0) & (rows_BT <= height)
        rows, columns = first_fit(fits_BT, rows_BT, columns_BT)
        tallest, widest = self.largest(x)
        fits = fits_BT.any(1)
        top = torch.where(fits, places(rows, height, place_2B[0]), ((height - tallest) / 2).floor())
        left = torch.where(fits, places(columns, width, place_2B[1]), ((width - widest) / 2).floor())
        return top, left, torch.where(fits, rows, tallest), torch.where(fits, columns, widest)

    def largest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Height and width of the largest crop with an allowed aspect, 0-d."""
        height, width = (x.new_tensor(float(side)) for side in x.shape[2:])
        rows = torch.where(width / height < self.min_ratio, (width / self.min_ratio).round(), height)
        columns = torch.where(width / height > self.max_ratio, (height * self.max_ratio).round(), width)
        return rows, columns


def resized_boxes(x: Tensor, top: Tensor, left: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Resize a box of every image to the size of the image, bilinearly; pixels outside of the box have no part.

    Args:
        x: images (B, C, H, W) float.
        top, left, rows, columns: corner and size of the boxes in pixels, (B,) whole numbers as floats.

    Returns:
        (B, C, H, W) in channels-last storage.
    """
    pixels = x.permute(0, 2, 3, 1)
    for axis, first, length in ((1, top, rows), (2, left, columns)):
        size = pixels.shape[axis]
        at = (torch.arange(size, device=x.device) + 0.5) * (length / size)[:, None] - 0.5
        at = torch.minimum(at.clamp_min(0.0), (length - 1)[:, None])
        lower = at.floor()
        upper = torch.minimum(lower + 1, (length - 1)[:, None])
        near, far = (taken(pixels, (first[:, None] + i).long(), axis) for i in (lower, upper))
        share = (at - lower).unsqueeze(3 - axis).unsqueeze(3).to(x.dtype)
        pixels = near + (far - near) * share
    return pixels.permute(0, 3, 1, 2)


def taken(pixels: Tensor, index: Tensor, axis: int) -> Tensor:
    """Rows (axis 1) or columns (axis 2) of images (B, H, W, C) by their positions (B, L)."""
    index = index[:, :, None, None] if axis == 1 else index[:, None, :, None]
    shape = list(pixels.shape)
    shape[axis] = index.shape[axis]
    return pixels.gather(axis, index.expand(shape))
