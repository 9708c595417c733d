"""The digits of ``data=digits`` with a class per pixel: the digit for ink, or background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.data.base import DataOption, pixel_statistics, pixel_sums
from mltricks.data.digits import WHITE, read_digits
from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.inputs.image import Image

INK = 8
"""Threshold for ink; pixel values are 0 to 16."""


@dataclass(frozen=True)
class DigitMasks(DataOption):
    """Images and masks of 8x8 pixels: a small segmentation task."""

    def load(self) -> DataSplits:
        (x, y), test = read_digits()
        train, val, aside = self.divide(y, len(y))
        rest = torch.cat([train, aside])
        kind = Image((1, 8, 8), *pixel_statistics(pixel_sums(x[rest]), 64), white=WHITE)
        whole = MemorySplit(x, masks(x, y), image=True)
        info = Info(kind, "mask", 11, ("background", *"0123456789"))
        held = MemorySplit(test[0], masks(*test), image=True)
        return DataSplits(whole.select(train), whole.select(val), held, info, *self.without_labels(whole, train, aside))


def masks(x: Tensor, y: Tensor) -> Tensor:
    """Masks (N, 8, 8) int64: 0 for the background, the digit plus one for ink.

    >>> masks(torch.tensor([0, 16]).view(1, 1, 2, 1), torch.tensor([7]))
    tensor([[[0, 8]]])
    """
    return torch.where(x[..., 0] >= INK, y[:, None, None] + 1, 0)
