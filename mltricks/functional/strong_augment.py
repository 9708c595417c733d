"""Strong augmentation: random operations from a fixed list, then cutout.

Source: Cubuk, Zoph, Shlens, Le, "RandAugment", 2019, arXiv:1909.13719, in the form that FixMatch uses
(arXiv:2001.07685, table 12: every operation's magnitude drawn anew); DeVries and Taylor, "Cutout", 2017,
arXiv:1708.04552.
Deviation of ``strong_augment``, which takes normalised images: operations on 8-bit values (autocontrast, equalize,
posterize, solarize) are left out; sharpness blends with the mean over 3x3 pixels; pixels from outside the image are the
training mean. ``randaugmented`` takes 8-bit images and has all operations.
Shapes: (B, C, H, W), float32 or uint8, keep shape and type.
Cost: one bilinear resampling and one 3x3 mean for each of ``num_ops``: every operation is computed for every sample,
with amount 0 where another was drawn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.functional.images.operations import perform
from mltricks.functional.images.policies import through_policies
from mltricks.functional.images.spaces import fixmatch_space
from mltricks.functional.views import adjust, uniform, warp

OPERATIONS = {
    "identity": 0.0,
    "rotate": 0.5236,
    "shear_x": 0.3,
    "shear_y": 0.3,
    "translate_x": 0.6,
    "translate_y": 0.6,
    "brightness": 0.95,
    "contrast": 0.95,
    "saturation": 0.95,
    "sharpness": 0.95,
}
"""Largest magnitude of each: radians (30 degrees), slope, half-sides (30 % of the side), distance from factor 1."""


def randaugmented(x: Tensor, num_ops: int, fill: int) -> Tensor:
    """``num_ops`` random operations of FixMatch's RandAugment one after another, each at a strength drawn anew.

    Args:
        x: images, uint8 (B, C, H, W), C 1 or 3.
        num_ops: >= 0.
        fill: value of what lies outside the image, 0 to 255.
    """
    space = fixmatch_space(*x.shape[2:])
    names = sorted(space)

    def apply(rows: Tensor, _: int, order: list[int]) -> Tensor:
        return perform(rows, [names[i] for i in order], space, torch.rand(len(rows), device=x.device), fill)

    for _ in range(num_ops):
        x = through_policies(x, [[name] for name in names], apply)
    return x


def strong_augment(x: Tensor, num_ops: int, cutout: float | Tensor) -> Tensor:
    """``num_ops`` random operations one after another, then a square of ``cutout`` of the side set to the mean."""
    for _ in range(num_ops):
        choice = torch.randint(len(OPERATIONS), (len(x),), device=x.device)
        x = apply_operation(x, choice, uniform(x, -1.0, 1.0))
    return cut_out(x, uniform(x, 0.0, 1.0, 2), cutout)


def apply_operation(x: Tensor, choice_B: Tensor, magnitude_B: Tensor) -> Tensor:
    """Apply to every sample operation number ``choice``, at a magnitude in [-1, 1] times its largest."""
    amount = {
        name: torch.where(choice_B == i, magnitude_B * largest, 0.0)
        for i, (name, largest) in enumerate(OPERATIONS.items())
    }
    cos, sin = amount["rotate"].cos(), amount["rotate"].sin()
    rows = [cos, amount["shear_x"] - sin, amount["shear_y"] + sin, cos]
    shift_B2 = torch.stack([amount["translate_x"], amount["translate_y"]], -1)
    x = warp(x, torch.stack(rows, -1).unflatten(-1, (2, 2)), shift_B2)
    pixelwise = [amount[name][:, None, None, None] for name in ("brightness", "contrast", "saturation", "sharpness")]
    x = adjust(x, *pixelwise[:3])
    return x + pixelwise[3] * (x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def cut_out(x: Tensor, centre_B2: Tensor, size: float | Tensor) -> Tensor:
    """Set a square to 0 around a centre in [0, 1) (vertical, horizontal); the square may reach over the border.

    Args:
        x: images.
        centre_B2: where, as a share of height and width.
        size: side of the square as a share of the shorter side.
    """
    height, width = x.shape[-2:]
    half = torch.as_tensor(size, device=x.device) * min(height, width) / 2
    down = (torch.arange(height, device=x.device) + 0.5 - centre_B2[:, :1] * height).abs() < half
    across = (torch.arange(width, device=x.device) + 0.5 - centre_B2[:, 1:] * width).abs() < half
    inside = down[:, None, :, None] & across[:, None, None, :]
    return torch.where(inside, 0.0, x)
