"""Cutout: blank one square at a random place in every image.

Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017,
arXiv:1708.04552, section 3.2: the centre may be any pixel, so the square may extend past the border.
Deviation: a square of odd ``size`` has that size; the authors' code makes it one pixel smaller.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) float, keep shape and type.
Cost: one masked copy of the batch. Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mltricks.batch import INPUTS, Batch
from mltricks.config.values import Count
from mltricks.technique import Ctx, Own, Params, Technique


@dataclass(frozen=True)
class Cutout(Technique):
    """Zero a square of ``size`` pixels a side; after normalisation zero is the mean colour.

    Args:
        size: pixels, >= 1 and at most the image's shorter side; ``None`` for a quarter of it.
    """

    size: Count | None

    kinds = ("image",)

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        side = min(batch["x"].shape[2:])
        if self.size is not None and self.size > side:
            raise ValueError(
                f"technique.cutout.size={self.size} is larger than the image, whose shorter side has {side} pixels. "
                f"Type technique.cutout.size={max(1, side // 2)}."
            )
        return params, {}

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        return {**batch, **{key: self._blanked(batch[key]) for key in INPUTS if key in batch}}

    def _blanked(self, x: Tensor) -> Tensor:
        rows, columns = (torch.randint(0, side, (len(x),), device=x.device) for side in x.shape[2:])
        size = max(1, min(x.shape[2:]) // 4) if self.size is None else self.size
        return torch.where(square(x, rows, columns, size), 0.0, x)


def square(x: Tensor, rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """The masks of the squares with side ``size`` around the centres: (B, 1, H, W) bool.

    Args:
        x: images (B, C, H, W).
        rows, columns: (B,) int64, the centres.
        size: side of the square; an even size extends one pixel further up and left.
    """
    down = _near(rows, x.shape[2], size)
    across = _near(columns, x.shape[3], size)
    return (down[:, :, None] & across[:, None, :]).unsqueeze(1)


def _near(centres: Tensor, length: int, size: int) -> Tensor:
    """(B, length) bool: the ``size`` positions around every centre."""
    first = (centres - size // 2)[:, None]
    position = torch.arange(length, device=centres.device)
    return (position >= first) & (position < first + size)
