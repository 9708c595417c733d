"""Test-time augmentation: its mean computed by hand, its invariances, and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, small_net
from contract import advance, assert_same, make
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from mltricks.techniques.tta import Tta, copies, five_crops


def predicted(x: Tensor, module: nn.Module, **settings: Any) -> Tensor:
    technique = Tta(**{"flip": True, "shift": 0, "crop": None, "average": "logits", **settings})
    predict = technique.evaluate(lambda params, x, ctx: ctx.apply(params, x, train=False))
    with torch.no_grad():
        return predict(params_of(module), x, context(module))


def test_flip_is_the_mean_of_image_and_mirror_image() -> None:
    module, x = small_net(), images(5)["x"]
    expected = (module(x) + module(x.flip(3))) / 2
    torch.testing.assert_close(predicted(x, module), expected.detach())


def test_shifted_copies_are_those_of_the_source() -> None:
    module, x = small_net(), images(5)["x"]
    padded = F.pad(x, [1] * 4, mode="reflect")
    moved = [padded[:, :, :8, :8], padded[:, :, 2:, 2:]]
    plain = 0.5 * module(x) + 0.25 * module(moved[0]) + 0.25 * module(moved[1])
    torch.testing.assert_close(predicted(x, module, flip=False, shift=1), plain.detach())
    mirrored = 0.5 * module(x.flip(3)) + 0.25 * module(moved[0].flip(3)) + 0.25 * module(moved[1].flip(3))
    torch.testing.assert_close(predicted(x, module, shift=1), ((plain + mirrored) / 2).detach())


def test_probabilities_are_averaged_where_asked_for() -> None:
    module, x = small_net(), images(5)["x"]
    expected = (module(x).softmax(1) + module(x.flip(3)).softmax(1)) / 2
    torch.testing.assert_close(predicted(x, module, average="probabilities").softmax(1), expected.detach())


@pytest.mark.parametrize(("flip", "shift", "count"), [(True, 0, 2), (False, 2, 3), (True, 2, 6)])
def test_weights_add_up_to_one(flip: bool, shift: int, count: int) -> None:
    weights = [weight for weight, _ in copies(torch.zeros(1, 1, 8, 8), flip, shift)]
    assert len(weights) == count
    assert sum(weights) == 1.0


class Symmetric(nn.Module):
    """A model that uses the mean of an image and its mirror image, so that mirroring changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_net()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.inner(x.flip(3))


def test_prediction_of_a_symmetric_model_does_not_change() -> None:
    x = images(5)["x"]
    torch.testing.assert_close(predicted(x, Symmetric()), Symmetric()(x).detach())


def test_prediction_is_the_same_for_the_mirror_image() -> None:
    module, x = small_net(), images(5)["x"]
    assert not torch.allclose(module(x), module(x.flip(3)))
    torch.testing.assert_close(predicted(x, module), predicted(x.flip(3), module))


def test_it_changes_evaluation_and_not_training() -> None:
    with_tta, without = make("technique=[tta]"), make()
    assert advance(with_tta, 5) == advance(without, 5)
    assert_same(with_tta.state["params"], without.state["params"])
    x = next(without.source.stream(0))["x"]
    normal = without.data.info.normalize(x)
    expected = (without.predict(without.state, x) + without.predict(without.state, normal.flip(3))) / 2
    torch.testing.assert_close(with_tta.predict(with_tta.state, x), expected)


def test_it_gives_the_same_before_and_after_ema() -> None:
    orders = [make(f"technique=[{names}]") for names in ("tta,ema", "ema,tta")]
    x = next(orders[0].source.stream(0))["x"]
    for run in orders:
        advance(run, 4)
    first, second = (run.predict(run.state, x) for run in orders)
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["flip=false"], "technique.tta.flip=false and technique.tta.shift=0 change nothing"),
        (["shift=8"], "technique.tta.shift=8 moves images of 8 pixels out of view"),
        (["shift=-1"], "technique.tta.shift=-1 is out of range"),
        (["average=votes"], "technique.tta.average=votes is not an option. Allowed: logits"),
    ],
)
def test_wrong_values_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("technique=[tta]", *(f"technique.tta.{o}" for o in overrides))


def test_probabilities_of_values_are_refused() -> None:
    module = small_net()
    batch = {"x": images(4)["x"], "y": torch.randn(4)}
    with pytest.raises(ValueError, match="average=probabilities is for classes"):
        Tta(flip=True, shift=0, crop=None, average="probabilities").setup(module, params_of(module), batch, 0)
    Tta(flip=True, shift=0, crop=None, average="logits").setup(module, params_of(module), batch, 0)


def test_crops_are_those_of_torchvision_resized_to_the_image() -> None:
    module, x = small_net(), images(5)["x"]
    for flip, theirs in ((False, tv.five_crop), (True, tv.ten_crop)):
        crops = theirs(x, [6, 6])
        outputs = [module(F.interpolate(crop, (8, 8), mode="bilinear", align_corners=False)) for crop in crops]
        torch.testing.assert_close(predicted(x, module, flip=flip, crop=6), torch.stack(outputs).mean(0).detach())


def test_crops_of_a_wide_image_are_as_wide() -> None:
    x = torch.rand(2, 3, 8, 12)
    expected = [F.interpolate(crop, (8, 12), mode="bilinear", align_corners=False) for crop in tv.five_crop(x, [6, 9])]
    for found, one in zip(five_crops(x, 6), expected, strict=True):
        torch.testing.assert_close(found, one)


@pytest.mark.parametrize(("crop", "shift"), [(8, 0), (6, 1)])
def test_crops_that_do_not_fit_are_refused(crop: int, shift: int) -> None:
    with pytest.raises(ValueError, match=rf"technique\.tta\.crop={crop}.*Type technique\.tta\.crop=7"):
        make("technique=tta", f"technique.tta.crop={crop}", f"technique.tta.shift={shift}")
