"""AutoAugment: one of 25 pairs of operations on every image, as a search on a data set found them.

Source: Cubuk, Zoph, Mané, Vasudevan, Le, "AutoAugment: Learning Augmentation Strategies from Data", 2019,
arXiv:1805.09501, tables 7 to 9, in the definition of ``torchvision.transforms.v2.AutoAugment``: level 9 is the full
range of an operation, factors of brightness and the like are 1 plus or minus a change, posterize keeps 8 to 4 bits,
nearest pixels, black outside the image.
Deviation: pairs are drawn image by image, but within a batch each of them equally often, rounded down or up
(``mltricks.functional.images.policies``).
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) uint8, C 1 or 3, keep shape and type.
Cost: two operations on every image and a few copies of the batch. Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from mltricks.config.values import Probability, Range
from mltricks.functional.images.autoaugment_policies import POLICIES
from mltricks.functional.images.operations import choose, perform
from mltricks.functional.images.pixels import OnPixels
from mltricks.functional.images.policies import through_policies
from mltricks.functional.images.spaces import autoaugment_space

LARGEST = 9
"""The level at which every operation is strongest."""


@dataclass(frozen=True)
class Autoaugment(OnPixels):
    """Two operations, each applied with the probability of the policy times ``p``.

    Args:
        policy: the data set on which it was found: ``cifar10``, ``imagenet`` or ``svhn``.
        p: factor of the policy's probabilities, in [0, 1].
        fill: value of what lies outside the image, 0 to 255.
    """

    policy: Literal["cifar10", "imagenet", "svhn"]
    p: Probability
    fill: Annotated[int, Range(0, 255)]

    needs_one_target = True

    def changed(self, x: Tensor) -> Tensor:
        space, policies = autoaugment_space(*x.shape[2:]), POLICIES[self.policy]

        def apply(rows: Tensor, place: int, order: list[int]) -> Tensor:
            names, probabilities, levels = zip(*(policies[i][place] for i in order), strict=True)
            level = in_parts([level / LARGEST for level in levels], rows)
            new = perform(rows, names, space, level, self.fill)
            return choose(torch.rand_like(level) < in_parts(probabilities, rows) * self.p, new, rows)

        return through_policies(x, [[name for name, _, _ in policy] for policy in policies], apply)


def in_parts(values: tuple[float, ...] | list[float], rows: Tensor) -> Tensor:
    """One value for each of the equal parts of a batch, as a value per row: (B,).

    >>> in_parts([0.5, 1.0], torch.zeros(4)).tolist()
    [0.5, 0.5, 1.0, 1.0]
    """
    size = len(rows) // len(values)
    return torch.cat([torch.full((size,), value, device=rows.device) for value in values])
