"""RandAugment: a few random operations in a row on every image, all of one strength.

Source: Cubuk, Zoph, Shlens, Le, "RandAugment: Practical automated data augmentation with a reduced search space", 2019,
arXiv:1909.13719, section 3, in the definition of ``torchvision.transforms.v2.RandAugment``: the paper's 14 operations,
every one stronger at a larger magnitude, nearest pixels, black outside the image.
Deviation: operations are drawn image by image, but within a batch each of them equally often, rounded down or up
(``mltricks.functional.images.policies``). Translations and posterize use the nearest whole strength as torchvision
does, at any real magnitude between its 31.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) uint8, C 1 or 3, keep shape and type.
Cost: ``num_ops`` operations on every image and as many copies of the batch. Legend: B batch, C channels, H height,
W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from mltricks.batch import INPUTS, Batch
from mltricks.config.values import Probability, Range, Size
from mltricks.data.info import Info
from mltricks.functional.images.checks import check_colors
from mltricks.functional.images.operations import choose, perform
from mltricks.functional.images.policies import through_policies
from mltricks.functional.images.spaces import randaugment_space
from mltricks.inputs.image import as_stored
from mltricks.technique import Ctx, Technique

LARGEST = 30
"""The magnitude at which every operation is strongest: torchvision's last bin."""


@dataclass(frozen=True)
class Randaugment(Technique):
    """``num_ops`` operations, each drawn from 14 and applied with probability ``p``, at one magnitude.

    Args:
        num_ops: operations in a row, >= 0.
        magnitude: strength, in [0, 30]; at 0 all but autocontrast, equalize and solarize of the value 255 keep the
            image.
        p: probability of each operation to be applied, in [0, 1].
        fill: value of what lies outside the image, 0 to 255.
    """

    num_ops: Size
    magnitude: Annotated[float, Range(0.0, LARGEST)]
    p: Probability
    fill: Annotated[int, Range(0, 255)]

    needs_raw = True
    kinds = ("image",)
    needs_one_target = True

    def check(self, info: Info) -> None:
        check_colors("randaugment", info)

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        if self.num_ops == 0:
            return batch
        return {**batch, **{key: as_stored(self._augmented(batch[key])) for key in INPUTS if key in batch}}

    def _augmented(self, x: Tensor) -> Tensor:
        space = randaugment_space(*x.shape[2:])
        names = sorted(space)

        def apply(rows: Tensor, _: int, order: list[int]) -> Tensor:
            level = torch.zeros(len(rows), device=x.device) + self.magnitude / LARGEST
            new = perform(rows, [names[i] for i in order], space, level, self.fill)
            return choose(torch.rand(len(rows), device=x.device) < self.p, new, rows)

        x = x.contiguous()
        for _ in range(self.num_ops):
            x = through_policies(x, [[name] for name in names], apply)
        return x
