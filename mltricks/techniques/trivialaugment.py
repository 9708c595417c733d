"""TrivialAugment: one random operation of random strength on every image.

Source: Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", 2021, arXiv:2103.10158,
section 3, in the definition of ``torchvision.transforms.v2.TrivialAugmentWide``: 31 strengths, nearest pixels, black
outside the image. The standard space has the ranges of the authors' code.
Deviation: operations are drawn image by image, but within a batch each of them equally often, rounded down or up
(``mltricks.functional.images.policies``). Factors of brightness and the like are 1 plus or minus a change, as in
torchvision; the authors draw the factor itself.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) uint8, C 1 or 3, keep shape and type.
Cost: one operation on every image and two copies of the batch. Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from mltricks.config.values import Probability, Range
from mltricks.functional.images.operations import choose, perform
from mltricks.functional.images.pixels import OnPixels
from mltricks.functional.images.policies import through_policies
from mltricks.functional.images.spaces import trivialaugment_space

NUM_LEVELS = 31


@dataclass(frozen=True)
class Trivialaugment(OnPixels):
    """One operation of 14, at one of 31 strengths from none to the full range.

    Args:
        space: ``wide`` or ``standard``, which is gentler.
        p: probability that an image is changed, in [0, 1].
        fill: value of what lies outside the image, 0 to 255.
    """

    space: Literal["wide", "standard"]
    p: Probability
    fill: Annotated[int, Range(0, 255)]

    needs_one_target = True

    def changed(self, x: Tensor) -> Tensor:
        space = trivialaugment_space(self.space == "wide")
        names = sorted(space)

        def apply(rows: Tensor, _: int, order: list[int]) -> Tensor:
            level = torch.randint(NUM_LEVELS, (len(rows),), device=x.device) / (NUM_LEVELS - 1)
            new = perform(rows, [names[i] for i in order], space, level, self.fill)
            return choose(torch.rand(len(rows), device=x.device) < self.p, new, rows)

        return through_policies(x, [[name] for name in names], apply)
