"""Progressive resizing: train on small images first, then on larger ones, and at the end on whole ones.

Source: Howard and Gugger, "Deep Learning for Coders with fastai and PyTorch", 2020, chapter 7; the schedule and its
defaults are those of MosaicML Composer's ``ProgressiveResizing``: small for ``delay_frac`` of the run, then growing
linearly, whole for the last ``full_frac``.
Deviation: images are resized bilinearly with antialiasing. Composer's other mode, a crop at a random place, is not
there: images change their size before the step, where nothing may be drawn.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) to (B, C, h, w), keep their type.
Cost: less than without it: a step on images of half the side takes about a quarter of the time; one recording a size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.batch import INPUTS, Batch
from mltricks.config.values import Count, Fraction, Probability, Range
from mltricks.technique import Shape, Technique


@dataclass(frozen=True)
class ProgressiveResizing(Technique):
    """Sides that grow from ``start`` of their length to the whole, in multiples of ``step`` pixels.

    Args:
        start: share of the side at first, in (0, 1]; 1 changes nothing.
        delay_frac: share of the run before the images grow, in [0, 1].
        full_frac: share of the run at its end with whole images, in (0, 1]: batch norm needs statistics of these.
        step: the size is a multiple of this many pixels; a large one makes for few sizes.

    Raises:
        ValueError: both shares are more than the run.
    """

    start: Fraction
    delay_frac: Probability
    full_frac: Annotated[float, Range(0.0, 1.0, above=True)]
    step: Count

    kinds = ("image",)
    needs_one_target = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delay_frac + self.full_frac > 1:
            raise ValueError(
                f"technique.progressive_resizing.delay_frac={self.delay_frac} and full_frac={self.full_frac} are more "
                "than the run. Type technique.progressive_resizing.delay_frac=0.5 with full_frac=0.2."
            )

    def shapes(self, in_shape: Shape) -> Sequence[tuple[float, Shape]]:
        channels, *sides = in_shape
        if self.start == 1 or len(sides) != 2:
            return ()
        if self.step >= max(sides):
            raise ValueError(
                f"technique.progressive_resizing.step={self.step} leaves no size below that of the images, "
                f"{sides[0]}x{sides[1]} pixels. Type technique.progressive_resizing.step={max(1, min(sides) // 8)}."
            )
        growth = 1.0 - self.delay_frac - self.full_frac
        sizes = {side: [n for n in range(self.step, side, self.step) if n > self.start * side] for side in sides}
        shares = {n / side for side, found in sizes.items() for n in found}
        starts = [
            (self.delay_frac + growth * (share - self.start) / (1.0 - self.start), share) for share in sorted(shares)
        ]
        table: dict[float, Shape] = {}
        for begin, share in [(0.0, self.start), *starts, (1.0 - self.full_frac, 1.0)]:
            table[begin] = (channels, *(self.length(side, share) for side in sides))
        return [(begin, shape) for begin, shape in table.items() if begin < 1]

    def length(self, side: int, share: float) -> int:
        """A share of a side, rounded down to a multiple of ``step``, but not to nothing."""
        return side if share == 1 else max(int(share * side + 1e-6) // self.step * self.step, min(self.step, side))

    def reshape(self, batch: Batch, shape: Shape) -> Batch:
        return {**batch, **{key: smaller(batch[key], *shape[1:]) for key in INPUTS if key in batch}}


def smaller(x: Tensor, height: int, width: int) -> Tensor:
    """Images (B, C, H, W) resized with antialiasing, in channels-last storage, with the dtype of ``x``."""
    found = F.interpolate(x.float(), (height, width), mode="bilinear", align_corners=False, antialias=True)
    found = found if x.is_floating_point() else found.round().clamp(0, 255)
    return found.to(x.dtype).contiguous(memory_format=torch.channels_last)
