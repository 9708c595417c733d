"""The digits of ``data=digits`` as pairs: the left and the right half of each image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.data.base import DataOption, pixel_statistics, pixel_sums
from mltricks.data.digits import read_digits
from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.inputs.image import Image
from mltricks.inputs.pair import Pair


@dataclass(frozen=True)
class DigitHalves(DataOption):
    """Pairs of image halves, classified by digit."""

    def load(self) -> DataSplits:
        (x, y), test = read_digits()
        train, val, aside = self.divide(y, len(y))
        rest = torch.cat([train, aside])
        left, right = halves(x[rest]).values()
        kind = Pair(*(Image((1, 8, 4), *pixel_statistics(pixel_sums(half), 32)) for half in (left, right)))
        whole = MemorySplit(halves(x), y, image=True)
        info = Info(kind, "classes", 10, tuple("0123456789"))
        held = MemorySplit(halves(test[0]), test[1], image=True)
        return DataSplits(whole.select(train), whole.select(val), held, info, *self.without_labels(whole, train, aside))


def halves(x: Tensor) -> dict[str, Tensor]:
    """Cut images (N, 8, 8, 1) into left and right halves (N, 8, 4, 1)."""
    left, right = x.chunk(2, 2)
    return {"left": left.contiguous(), "right": right.contiguous()}
