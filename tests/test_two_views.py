"""Views: every operation against torchvision's, the draws, sizes, switches, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from contract import make
from torch import Tensor

from mltricks.data.info import Info
from mltricks.functional import colors
from mltricks.functional.two_views import TwoViews
from mltricks.functional.views import blur, resized_crop
from mltricks.inputs.image import Image

PLAIN: dict[str, Any] = {
    **{"min_scale": 1.0, "flip": False, "color": None},
    **{"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    **{"p_jitter": None, "p_grey": None, "p_blur": None},
}
WHITE = 200


def views(channels: int = 3, side: int = 8, **changes: Any) -> TwoViews:
    """The base technique on bytes whose mean and deviation differ by channel."""
    made = TwoViews(**{**PLAIN, **changes})
    mean, std = torch.linspace(40, 70, channels).view(-1, 1, 1), torch.linspace(50, 20, channels).view(-1, 1, 1)
    made.check(Info(Image((channels, side, side), mean, std, WHITE), "classes", 10))
    return made


def pixels(made: TwoViews, x: Tensor) -> Tensor:
    """Normalised images as numbers from 0 to 1."""
    channels = x.shape[1]
    mean, std = torch.linspace(40, 70, channels).view(-1, 1, 1), torch.linspace(50, 20, channels).view(-1, 1, 1)
    return (x * std + mean) / WHITE


def normalised(count: int, channels: int = 3, side: int = 8) -> Tensor:
    p = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))
    mean, std = torch.linspace(40, 70, channels).view(-1, 1, 1), torch.linspace(50, 20, channels).view(-1, 1, 1)
    return (p * WHITE - mean) / std


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_change_of_colours_equals_torchvisions(name: str, channels: int) -> None:
    x, factor = pixels(views(channels), normalised(6, channels)), torch.linspace(0, 1.9, 6)
    expected = [getattr(tv, f"adjust_{name}")(x[i], float(factor[i])) for i in range(6)]
    torch.testing.assert_close(getattr(colors, name)(x, factor), torch.stack(expected), rtol=0, atol=2e-7)


def test_a_turn_of_the_hue_equals_torchvisions() -> None:
    x, turn = pixels(views(), normalised(6)), torch.linspace(-0.5, 0.5, 6)
    x[0] = x[0, :1]  # grey
    expected = torch.stack([tv.adjust_hue(x[i], float(turn[i])) for i in range(6)])
    torch.testing.assert_close(colors.turned(x, turn), expected, rtol=0, atol=2e-6)


def test_solarize_equals_torchvisions_on_every_byte() -> None:
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    torch.testing.assert_close((colors.solarize(x / 255) * 255).round().to(torch.uint8), tv.solarize(x, 128))


@pytest.mark.parametrize(("shape", "kernel"), [((64, 40), 7), ((32, 32), 3), ((8, 8), 3), ((28, 28), 3)])
def test_blur_equals_torchvisions_with_a_kernel_of_a_tenth_of_the_height(shape: tuple[int, int], kernel: int) -> None:
    x, sigma = torch.rand(4, 2, *shape, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 2, 4)
    expected = [tv.gaussian_blur(x[i], [kernel, kernel], [float(sigma[i])] * 2) for i in range(4)]
    torch.testing.assert_close(blur(x, sigma), torch.stack(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("p", ["p_jitter", "p_grey", "p_blur"])
def test_probability_0_keeps_the_image_and_1_changes_every_one(p: str, channels: int) -> None:
    x, never, always = normalised(30, channels), views(channels, **{p: 0.0}), views(channels, **{p: 1.0})
    torch.testing.assert_close(never.changed(x, never.p_blur), x, rtol=0, atol=1e-5)
    torch.manual_seed(0)
    changed = (always.changed(x, always.p_blur) - x).abs().amax((1, 2, 3)) > 1e-4
    if p == "p_grey" and channels == 1:
        assert not changed.any()
    elif p == "p_blur":
        assert changed.float().mean() > 0.8, "a blur of a tenth of a pixel changes nothing"
    else:
        assert changed.all()


def test_grey_has_equal_channels_as_pixels() -> None:
    made = views(p_grey=1.0)
    p = pixels(made, made.changed(normalised(4), None))
    torch.testing.assert_close(p, colors.grey(pixels(made, normalised(4))).expand_as(p))


def test_a_probability_is_that_of_an_image() -> None:
    torch.manual_seed(0)
    x = normalised(2000)
    changed = (views().changed(x, 0.3) - x).abs().amax((1, 2, 3)) > 1e-4
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.04)


def test_strengths_of_0_change_nothing_and_others_stay_in_their_range() -> None:
    x = pixels(views(), normalised(200)) * 0.5 + 0.1
    none = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    torch.testing.assert_close(colors.jitter(x, none), x)
    ratio = colors.jitter(x, {**none, "brightness": 0.4}) / x
    assert 0.6 <= float(ratio.min()) < 0.65
    assert 1.35 < float(ratio.max()) <= 1.4001
    assert float((ratio.amax((1, 2, 3)) - ratio.amin((1, 2, 3))).max()) < 1e-4, "one factor for an image"


def test_a_row_and_its_partner_are_two_draws_of_one_image() -> None:
    x = normalised(5)
    made = views(min_scale=0.3, flip=True, p_jitter=0.8, p_grey=0.2, p_blur=0.5)
    both = made.both(x)
    assert both.shape == (10, 3, 8, 8)
    assert not torch.equal(both[:5], both[5:])


def test_color_alone_is_the_change_of_normalised_images() -> None:
    x = normalised(4)
    torch.manual_seed(3)
    made = views(min_scale=0.3, flip=True, color=0.4, p_jitter=0.8, p_grey=0.2).both(x)
    torch.manual_seed(3)
    from mltricks.functional.views import color_jitter

    assert torch.equal(made, color_jitter(resized_crop(torch.cat([x, x]), 0.3, True), 0.4))


def floats(channels: int) -> Info:
    return Info(Image((channels, 8, 8)), "classes", 10)


def test_images_that_are_no_pixels_are_refused_unless_color_changes_them() -> None:
    with pytest.raises(ValueError, match=r"these are floats\. Type technique\.\w+\.color=0\.4"):
        TwoViews(**{**PLAIN, "p_grey": 0.2}).check(floats(3))
    five = Info(Image((5, 8, 8), torch.zeros(5, 1, 1), torch.ones(5, 1, 1)), "classes", 10)
    with pytest.raises(ValueError, match="these have 5 channels"):
        TwoViews(**{**PLAIN, "p_jitter": 0.8}).check(five)
    for fine in ({"color": 0.4, "p_jitter": 0.8}, {"p_blur": 0.5}):
        made = TwoViews(**{**PLAIN, **fine})
        made.check(floats(5))
        assert made.both(torch.randn(2, 5, 8, 8)).shape == (4, 5, 8, 8)


@pytest.mark.parametrize("name", ["simclr", "moco", "simsiam", "barlow_twins"])
def test_colour_images_of_another_size_train(name: str) -> None:
    run = make(
        f"technique={name}", "data=custom", "data._target_=test_two_views.coloured", "allow_modules=[test_two_views]"
    )
    _, metrics = run.step(run.state, next(run.source.stream(0)), run.hypers.at(0))
    assert torch.isfinite(metrics["loss"])
    assert float(metrics["feature_std"]) > 0


def coloured() -> Any:
    """Random colour images of 20 by 12 pixels."""
    from torch.utils.data import TensorDataset

    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (200, 3, 20, 12), generator=generator, dtype=torch.uint8)
    return TensorDataset(x, torch.arange(200) % 4)
