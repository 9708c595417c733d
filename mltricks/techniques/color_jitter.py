"""Colour jitter: change brightness, contrast, saturation and hue by random amounts in a random order.

Source: ``torchvision.transforms.v2.ColorJitter``, whose steps each end in whole values from 0 to 255; the probabilities
of the whole and of a grey image are those of Chen et al., "A Simple Framework for Contrastive Learning of Visual
Representations", 2020, arXiv:2002.05709, appendix A.
Deviation: the order is drawn image by image, but within a batch each order equally often, rounded down or up
(``mltricks.functional.images.policies``).
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) uint8, C 1 or 3, keep shape and type.
Cost: four operations on every image, two on grey ones, and a few copies of the batch. Legend: B batch, C channels,
H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Annotated

import torch
from torch import Tensor

from mltricks.config.values import NonNegative, Probability, Range
from mltricks.data.info import Info
from mltricks.functional.images import levels
from mltricks.functional.images.hue import shift_hue
from mltricks.functional.images.operations import choose, runs
from mltricks.functional.images.pixels import OnPixels
from mltricks.functional.images.policies import through_policies


@dataclass(frozen=True)
class ColorJitter(OnPixels):
    """Factors uniform in [max(0, 1 - s), 1 + s) for strengths s, and a shift of the hue uniform in [-hue, hue).

    Args:
        brightness, contrast, saturation: strengths, >= 0; 0 changes nothing.
        hue: largest shift, as a share of the circle of colours, in [0, 0.5].
        p: probability that an image is jittered, in [0, 1].
        p_grey: probability that an image becomes grey after that, in [0, 1].
    """

    brightness: NonNegative
    contrast: NonNegative
    saturation: NonNegative
    hue: Annotated[float, Range(0.0, 0.5)]
    p: Probability
    p_grey: Probability

    def check(self, info: Info) -> None:
        super().check(info)
        grey_only = self.brightness == 0 == self.contrast
        if info.in_shape[0] == 1 and grey_only and (self.saturation or self.hue or self.p_grey):
            raise ValueError(
                "technique.color_jitter: saturation, hue and p_grey change nothing on grey images. Type "
                "technique.color_jitter.brightness=0.4, or leave color_jitter out."
            )

    def changed(self, x: Tensor) -> Tensor:
        names = ("brightness", "contrast") if x.shape[1] == 1 else ("brightness", "contrast", "saturation", "hue")
        orders = list(permutations(names))

        def apply(rows: Tensor, place: int, order: list[int]) -> Tensor:
            parts = runs([orders[i][place] for i in order], len(rows) // len(order))
            return torch.cat([self._changed(name, rows[part]) for name, part in parts])

        new = through_policies(x, orders, apply)
        x = choose(torch.rand(len(x), device=x.device) < self.p, new, x)
        if x.shape[1] == 1:
            return x
        grey = levels.grey(x).to(torch.uint8).expand_as(x)
        return choose(torch.rand(len(x), device=x.device) < self.p_grey, grey, x)

    def _changed(self, name: str, x: Tensor) -> Tensor:
        draw = torch.rand(len(x), device=x.device)
        if name == "hue":
            return shift_hue(x, (2 * draw - 1) * self.hue)
        strength = torch.zeros_like(draw) + getattr(self, name)
        low = (1 - strength).clamp(min=0)
        change = {"brightness": levels.brightness, "contrast": levels.contrast, "saturation": levels.saturation}[name]
        return change(x, low + draw * (1 + strength - low))
