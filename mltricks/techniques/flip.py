"""Flip: mirror random images left to right.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012, section
4.1. The same result as ``torchvision.transforms.RandomHorizontalFlip(p)``.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W), uint8 or float, keep shape and type.
Cost: one mirrored copy of the batch and one of the chosen images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.batch import INPUTS, Batch
from mltricks.config.values import Probability
from mltricks.technique import Ctx, Technique


@dataclass(frozen=True)
class Flip(Technique):
    """Mirror every image with probability ``p``.

    Args:
        p: probability, in [0, 1].
    """

    p: Probability

    on_raw = True
    mirrors = True
    kinds = ("image",)
    needs_one_target = True

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        return {**batch, **{key: self._mirrored(batch[key]) for key in INPUTS if key in batch}}

    def _mirrored(self, x: Tensor) -> Tensor:
        return flip(x, torch.rand(len(x), device=x.device) < self.p)


def flip(x: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images left to right.

    Whole images are gathered from the originals concatenated with their mirror images, because ``where`` would read the
    choice once per element.

    Args:
        x: images (B, C, H, W).
        chosen: (B,) bool.

    Returns:
        (B, C, H, W) in channels-last storage, with the dtype of ``x``.

    >>> flip(torch.tensor([[[[1, 2]]], [[[3, 4]]]]), torch.tensor([True, False])).flatten().tolist()
    [2, 1, 3, 4]
    """
    pixels = x.permute(0, 2, 3, 1)
    position = torch.arange(len(x), device=x.device) + len(x) * chosen
    return torch.cat([pixels, pixels.flip(2)]).index_select(0, position).permute(0, 3, 1, 2)
