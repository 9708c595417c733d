"""Operations on images: the same pixels as ``torchvision.transforms.v2.functional``, operation by magnitude."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from mltricks.functional.images import levels, warps
from mltricks.functional.images.hue import shift_hue
from mltricks.functional.images.sharpness import sharpness

NUM = 31
"""Images, each with its own magnitude."""


def pictures(kind: str, channels: int) -> Tensor:
    """Images of uint8: noise, smooth ones that use all values, dark ones, ones of a single value."""
    generator = torch.Generator().manual_seed(0)
    if kind == "smooth":
        coarse = torch.rand(NUM, channels, 5, 5, generator=generator)
        return F.interpolate(coarse, (20, 20), mode="bicubic").clamp(0, 1).mul(255).byte()
    shape, top = {"noise": ((20, 17), 256), "dark": ((8, 8), 17), "flat": ((6, 6), 256)}[kind]
    x = torch.randint(top, (NUM, channels, *shape), dtype=torch.uint8, generator=generator)
    return x[:, :, :1, :1].expand_as(x).contiguous() if kind == "flat" else x


def one_by_one(x: Tensor, reference: Callable[[Tensor, float], Tensor], magnitudes: Tensor) -> Tensor:
    return torch.stack([reference(image, value) for image, value in zip(x, magnitudes.tolist(), strict=True)])


FACTORS = torch.linspace(0, 2, NUM)
BITS = torch.arange(NUM).remainder(9).float()
POINTS: dict[str, tuple[Any, Any, Tensor]] = {
    "brightness": (levels.brightness, tv.adjust_brightness, FACTORS),
    "contrast": (levels.contrast, tv.adjust_contrast, FACTORS),
    "saturation": (levels.saturation, tv.adjust_saturation, FACTORS),
    "sharpness": (sharpness, tv.adjust_sharpness, FACTORS),
    "posterize": (levels.posterize, lambda x, bits: tv.posterize(x, int(bits)), BITS),
    "solarize": (levels.solarize, tv.solarize, torch.linspace(0, 255, NUM)),
    "invert": (lambda x, _: levels.invert(x), lambda x, _: tv.invert(x), BITS),
    "autocontrast": (lambda x, _: levels.autocontrast(x), lambda x, _: tv.autocontrast(x), BITS),
    "equalize": (lambda x, _: levels.equalize(x), lambda x, _: tv.equalize(x), BITS),
    "grey": (lambda x, _: levels.grey(x).byte(), lambda x, _: tv.rgb_to_grayscale(x), BITS),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["noise", "smooth", "dark", "flat"])
@pytest.mark.parametrize("name", POINTS)
def test_an_operation_on_values_gives_the_pixels_of_torchvision(name: str, kind: str, channels: int) -> None:
    ours, theirs, magnitudes = POINTS[name]
    x = pictures(kind, channels)
    before = x.clone()
    assert torch.equal(ours(x, magnitudes), one_by_one(x, theirs, magnitudes))
    assert torch.equal(x, before)


def test_hue_is_that_of_torchvision_to_one_level_of_a_few_pixels() -> None:
    shifts = torch.linspace(-0.5, 0.5, NUM)
    for kind in ("noise", "smooth", "dark", "flat"):
        x = pictures(kind, 3)
        distance = (shift_hue(x, shifts).int() - one_by_one(x, tv.adjust_hue, shifts).int()).abs()
        assert int(distance.max()) <= 1
        assert float((distance > 0).float().mean()) < 1e-3
        assert torch.equal(shift_hue(x, torch.zeros(NUM)), x)


def slanted(x: Tensor, across: float, down: float, **how: Any) -> Tensor:
    angles = [math.degrees(math.atan(slope)) for slope in (across, down)]
    return tv.affine(x, angle=0.0, translate=[0, 0], scale=1.0, shear=angles, center=[0, 0], **how)


def moved(x: Tensor, right: float, down: float, **how: Any) -> Tensor:
    return tv.affine(x, angle=0.0, translate=[int(right), int(down)], scale=1.0, shear=[0.0, 0.0], **how)


SLOPES, PIXELS = torch.linspace(-0.99, 0.99, NUM), torch.arange(-15.0, 16.0)
MAPS: dict[str, tuple[Any, Any, Tensor]] = {
    "shear_x": (warps.shear_x, lambda x, slope, **how: slanted(x, slope, 0, **how), SLOPES),
    "gentle shear_x": (warps.shear_x, lambda x, slope, **how: slanted(x, slope, 0, **how), SLOPES * (0.3 / 0.99)),
    "shear_y": (warps.shear_y, lambda x, slope, **how: slanted(x, 0, slope, **how), SLOPES),
    "translate_x": (warps.translate_x, lambda x, pixels, **how: moved(x, pixels, 0, **how), PIXELS),
    "translate_y": (warps.translate_y, lambda x, pixels, **how: moved(x, 0, pixels, **how), PIXELS),
    "rotate": (warps.rotate, tv.rotate, torch.linspace(-135, 135, NUM)),
}


def between_pixels(place: Tensor, height: int, width: int) -> Tensor:
    """Whether a place is as near to one pixel as to the next, so that rounding decides: (B, H, W)."""
    across, down = warps.places(place, height, width)
    halves = [(v + 1) * (side / 2) for v, side in ((across, width), (down, height))]
    return torch.stack([(v - v.round()).abs() < 1e-4 for v in halves]).any(0)


@pytest.mark.parametrize("size", [(12, 12), (9, 14)])
@pytest.mark.parametrize("name", MAPS)
def test_a_geometric_operation_gives_the_pixels_of_torchvision(name: str, size: tuple[int, int]) -> None:
    ours, theirs, magnitudes = MAPS[name]
    x = torch.randint(256, (NUM, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    place = ours(magnitudes, *size)
    clear = ~between_pixels(place, *size)[:, None].expand_as(x)
    assert float(clear.float().mean()) > 0.9
    for fill in (0, 128):
        found = warps.warp(x, place, fill, "nearest")
        expected = one_by_one(x, lambda a, m, f=fill: theirs(a, m, fill=f or None), magnitudes)
        assert torch.equal(found[clear], expected[clear])
    found = warps.warp(x, place, 0, "bilinear").int()
    expected = one_by_one(x, lambda a, m: theirs(a, m, interpolation=InterpolationMode.BILINEAR), magnitudes).int()
    assert int((found - expected).abs().max()) <= 1
    assert float((found != expected).float().mean()) < 5e-3


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_an_affine_map_is_that_of_torchvision(mode: str) -> None:
    torch.manual_seed(0)
    x = torch.randint(256, (NUM, 3, 15, 12), dtype=torch.uint8)
    draws = torch.rand(NUM, 6) - 0.5
    degrees, scale, shear_x, shear_y = draws[:, 0] * 90, 1 + draws[:, 1], draws[:, 2] * 40, draws[:, 3] * 40
    right, down = (draws[:, 4] * 8).round(), (draws[:, 5] * 8).round()
    found = warps.warp(x, warps.affine(degrees, right, down, scale, shear_x, shear_y), 0, mode)
    for i in range(NUM):
        numbers = [float(v[i]) for v in (degrees, right, down, scale, shear_x, shear_y)]
        expected = tv.affine(
            x[i], numbers[0], numbers[1:3], numbers[3], numbers[4:], interpolation=InterpolationMode(mode)
        )
        assert int((found[i].int() - expected.int()).abs().max()) <= (0 if mode == "nearest" else 1)


def test_beside_the_border_bilinear_pixels_blend_with_the_fill() -> None:
    x = torch.full((1, 1, 1, 4), 200, dtype=torch.uint8)
    place = warps.translate_x(torch.tensor([1.25]), 1, 4)
    assert warps.warp(x, place, 100, "bilinear").flatten().tolist() == [100, 175, 200, 200]


def test_small_images_stay_sharp() -> None:
    x = torch.randint(256, (2, 3, 2, 5), dtype=torch.uint8)
    assert torch.equal(sharpness(x, torch.tensor([0.0, 2.0])), x)
