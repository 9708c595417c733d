"""The operations of augmentation policies by name, and their ranges at levels from 0 to 1. Legend: B batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from mltricks.functional.images import levels, warps
from mltricks.functional.images.sharpness import sharpness

GEOMETRIC: Mapping[str, Callable[..., Tensor]] = {
    "shear_x": warps.shear_x,
    "shear_y": warps.shear_y,
    "translate_x": warps.translate_x,
    "translate_y": warps.translate_y,
    "rotate": warps.rotate,
}
"""They take amounts (B,), height and width, and give the map of ``warps.warp``."""
STRENGTHENED: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": levels.brightness,
    "contrast": levels.contrast,
    "saturation": levels.saturation,
    "sharpness": sharpness,
    "posterize": levels.posterize,
    "solarize": levels.solarize,
    "solarize_add": levels.solarize_add,
}
"""They take images and amounts (B,)."""
SWITCHED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "invert": levels.invert,
    "autocontrast": levels.autocontrast,
    "equalize": levels.equalize,
}
"""They take images alone."""


@dataclass(frozen=True)
class Span:
    """The amounts of an operation: from ``weakest`` at level 0 to ``strongest`` at level 1, linearly.

    Args:
        weakest, strongest: in the unit of the operation.
        signed: whether half of the images go the other way from ``weakest``.
        whole: ``cut`` and ``round`` make the distance from ``weakest`` a whole number, towards zero or the nearest.
    """

    weakest: float
    strongest: float
    signed: bool = False
    whole: str = ""

    def amounts(self, level_B: Tensor, sign_B: Tensor) -> Tensor:
        """The amounts at levels in [0, 1] with signs -1 or 1: (B,)."""
        distance = level_B * (self.strongest - self.weakest)
        if self.whole:
            distance = distance.trunc() if self.whole == "cut" else distance.round()
        return self.weakest + (distance * sign_B if self.signed else distance)


Space = Mapping[str, Span | None]
"""The operations of a policy by name; those without strength have no span."""


def perform(
    x: Tensor, names: Sequence[str], space: Space, level_B: Tensor, fill: int, interpolation: str = "nearest"
) -> Tensor:
    """Apply one operation to each of the equal parts of a batch.

    Geometric operations share one resampling, as they differ in their maps only.

    Args:
        x: images, uint8 (B, C, H, W), B a multiple of the number of names.
        names: of the operations of ``space`` for each part. Equal ones that follow each other are done together.
        space: the operations.
        level_B: strength of every image's operation, from 0 to 1.
        fill: value of what lies outside the image, 0 to 255.
        interpolation: ``nearest`` or ``bilinear``.
    """
    sign_B = torch.rand(len(x), device=x.device).lt(0.5).float() * 2 - 1
    parts = list(runs(names, len(x) // len(names)))
    maps: dict[int, Tensor] = {}
    done: dict[int, Tensor] = {}
    for name, part in parts:
        span = space[name]
        if span is None:
            done[part.start] = SWITCHED[name](x[part])
            continue
        amount = span.amounts(level_B[part], sign_B[part])
        if name in GEOMETRIC:
            maps[part.start] = GEOMETRIC[name](amount, *x.shape[2:])
        else:
            done[part.start] = STRENGTHENED[name](x[part], amount)
    if maps:
        rows = torch.cat([x[part] for _, part in parts if part.start in maps])
        warped = warps.warp(rows, torch.cat(list(maps.values())), fill, interpolation)
        done |= dict(zip(maps, warped.split([len(m) for m in maps.values()]), strict=True))
    return torch.cat([done[part.start] for _, part in parts])


def runs(names: Sequence[str], size: int) -> Iterator[tuple[str, slice]]:
    """Names that follow each other, each with its rows, if every name has ``size`` of them.

    >>> list(runs(["a", "a", "b"], 10))
    [('a', slice(0, 20, None)), ('b', slice(20, 30, None))]
    """
    start = 0
    for name, same in groupby(names):
        stop = start + size * len(list(same))
        yield name, slice(start, stop)
        start = stop


def choose(chosen_B: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new version of the chosen images and the old one of the others.

    Whole images are gathered, because ``where`` would read the choice once per element.
    """
    position = torch.arange(len(old), device=old.device)
    return torch.cat([old, new]).index_select(0, position + len(old) * chosen_B)
