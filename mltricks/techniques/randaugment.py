"""RandAugment: a few random operations in a row on every image, all of one strength.

Source: Cubuk, Zoph, Shlens, Le, "RandAugment: Practical automated data augmentation with a reduced search space", 2019,
arXiv:1909.13719, section 3, in the definition of ``torchvision.transforms.v2.RandAugment``: the paper's 14 operations,
every one stronger at a larger magnitude, nearest pixels, black outside the image.
Deviation: operations are drawn image by image, but within a batch each of them equally often, rounded down or up
(``mltricks.functional.images.policies``). The magnitude may be any number between torchvision's 31 bins. The space
``timm`` has the ranges of timm's ``inc1``, with nearest pixels and without noise on the magnitude.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) uint8, C 1 or 3, keep shape and type.
Cost: ``num_ops`` operations on every image and as many copies of the batch. Legend: B batch, C channels, H height,
W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import Probability, Range, Size
from mltricks.functional.images.operations import choose, perform
from mltricks.functional.images.pixels import OnPixels
from mltricks.functional.images.policies import through_policies
from mltricks.functional.images.spaces import randaugment_space, timm_space
from mltricks.technique import Ctx

LARGEST = 30
"""The magnitude at which every operation is strongest: torchvision's last bin."""


@dataclass(frozen=True)
class Randaugment(OnPixels):
    """``num_ops`` operations, each drawn from a space and applied with probability ``p``, at one magnitude.

    Args:
        num_ops: operations in a row, >= 0.
        magnitude: strength, in [0, 30], as a share of the ranges of the space.
        space: ``torchvision`` (14 operations, the paper's) or ``timm`` (15: Invert and SolarizeAdd for Identity).
        p: probability of each operation to be applied, in [0, 1].
        fill: value of what lies outside the image, 0 to 255.
    """

    num_ops: Size
    magnitude: Annotated[float, Range(0.0, LARGEST)]
    space: Literal["torchvision", "timm"]
    p: Probability
    fill: Annotated[int, Range(0, 255)]

    needs_one_target = True

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        if self.num_ops == 0:
            return batch
        return super().batch(batch, ctx)

    def changed(self, x: Tensor) -> Tensor:
        space = (timm_space if self.space == "timm" else randaugment_space)(*x.shape[2:])
        names = sorted(space)

        def apply(rows: Tensor, _: int, order: list[int]) -> Tensor:
            level = torch.zeros(len(rows), device=x.device) + self.magnitude / LARGEST
            new = perform(rows, [names[i] for i in order], space, level, self.fill)
            return choose(torch.rand(len(rows), device=x.device) < self.p, new, rows)

        for _ in range(self.num_ops):
            x = through_policies(x, [[name] for name in names], apply)
        return x
