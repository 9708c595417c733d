"""Colours of images whose pixels are numbers from 0 to 1: torchvision's operations on float images.

Bytes have operations of their own in ``mltricks.functional.images``. Legend: B batch, C channels (1 or 3), H height,
W width.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

from mltricks.functional.images.hue import turned
from mltricks.functional.images.levels import over_pixels
from mltricks.functional.images.operations import choose, runs
from mltricks.functional.images.policies import through_policies


def brightness(x: Tensor, factor_B: Tensor) -> Tensor:
    """Multiply by ``factor``, >= 0; 1 keeps the image."""
    return (x * over_pixels(factor_B)).clamp(0, 1)


def contrast(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale the distance from the mean of the grey image by ``factor``, >= 0; 1 keeps the image."""
    return away_from(grey(x).mean((1, 2, 3), keepdim=True), x, factor_B)


def saturation(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale the distance from the grey image by ``factor``, >= 0; 1 keeps the image."""
    return away_from(grey(x), x, factor_B)


def away_from(base: Tensor, x: Tensor, factor_B: Tensor) -> Tensor:
    """base + factor (x - base), cut to the range of pixels."""
    factor = over_pixels(factor_B)
    return (factor * x + (1 - factor) * base).clamp(0, 1)


def grey(x: Tensor) -> Tensor:
    """0.2989 red + 0.587 green + 0.114 blue, (B, 1, H, W); one channel is grey already."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, 1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def solarize(x: Tensor) -> Tensor:
    """Invert the brighter half of the values. On bytes this is PIL's solarize at its threshold of 128.

    >>> solarize(torch.tensor([0.25, 0.75]))
    tensor([0.2500, 0.2500])
    """
    return torch.minimum(x, 1 - x)


def jitter(x: Tensor, strengths: dict[str, float | Tensor]) -> Tensor:
    """Change brightness, contrast, saturation and hue by random amounts in a random order.

    The order is drawn as ``mltricks.functional.images.policies`` says: each equally often within a batch.

    Args:
        x: images (B, C, H, W) from 0 to 1.
        strengths: s of ``brightness``, ``contrast`` and ``saturation``, >= 0, for factors uniform in
            [max(0, 1 - s), 1 + s); and of ``hue``, in [0, 0.5], for a turn uniform in [-s, s). Images of one channel
            have the first two only.
    """
    names = ("brightness", "contrast") if x.shape[1] == 1 else ("brightness", "contrast", "saturation", "hue")
    orders = list(permutations(names))

    def apply(rows: Tensor, place: int, order: list[int]) -> Tensor:
        parts = runs([orders[i][place] for i in order], len(rows) // len(order))
        return torch.cat([jittered(name, rows[part], strengths[name]) for name, part in parts])

    return through_policies(x, orders, apply)


def jittered(name: str, x: Tensor, strength: float | Tensor) -> Tensor:
    """One of the four changes at a random amount."""
    draw = torch.rand(len(x), device=x.device)
    if name == "hue":
        return turned(x, (2 * draw - 1) * strength)
    low = (1 - strength * torch.ones_like(draw)).clamp(min=0)
    change = {"brightness": brightness, "contrast": contrast, "saturation": saturation}[name]
    return change(x, low + draw * (1 + strength - low))


def sometimes(p: float | Tensor, new: Tensor, x: Tensor) -> Tensor:
    """The new version of every image with probability ``p``, else the old one."""
    return choose(torch.rand(len(x), device=x.device) < p, new, x)
