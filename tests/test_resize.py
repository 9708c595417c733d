"""``data.resize``: images brought to another size once, and the same for inputs to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

import mltricks
from mltricks.config.compose import compose, plain
from mltricks.data.base import pixel_statistics, pixel_sums
from mltricks.data.custom import load_data
from mltricks.inputs.resizing import PIECE, resized


def load(*overrides: str):
    cfg = plain(compose(list(overrides)))
    return load_data(cfg["data"], cfg["allow_modules"])


@pytest.mark.parametrize(("before", "after"), [((28, 28), (14, 14)), ((32, 20), (9, 31)), ((8, 8), (16, 12))])
def test_it_resizes_as_torchvision_does(before: tuple[int, int], after: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (PIECE + 3, *before, 2), dtype=torch.uint8, generator=generator)
    found = resized(x, *after)
    floats = tv.resize(x.permute(0, 3, 1, 2).float(), list(after), antialias=True).permute(0, 2, 3, 1)
    assert torch.equal(found, floats.round().clamp(0, 255).to(torch.uint8))
    theirs = tv.resize(x.permute(0, 3, 1, 2), list(after), antialias=True).permute(0, 2, 3, 1)
    assert (found.int() - theirs.int()).abs().max() <= 1  # torchvision computes with integers
    assert resized(x, *before) is x


def test_splits_statistics_and_shape_are_those_of_the_resized_images() -> None:
    before, data = load(), load("data.resize=[12,10]")
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(data, name).x, resized(getattr(before, name).x, 12, 10))
        assert torch.equal(getattr(data, name).y, getattr(before, name).y)
    kind = data.info.input
    assert (kind.shape, kind.original) == ((1, 12, 10), (1, 8, 8))
    mean, std = pixel_statistics(pixel_sums(data.train.x), 120)
    assert (torch.equal(kind.mean, mean), torch.equal(kind.std, std)) == (True, True)
    assert load().info.input.original is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resized")
    given = ["data.resize=12", "model=mlp", "epochs=1", "data.limit=64", "progress=none", "plots=false"]
    mltricks.train(compose(given), folder)
    return folder


def test_inputs_to_predict_are_resized_in_the_same_way(trained: Path) -> None:
    raw, data = load().test.x, load("data.resize=12").test
    model = mltricks.load(trained)
    expected = model.predict(data.x)
    for x in (raw, raw.permute(0, 3, 1, 2), raw[..., 0], raw.numpy(), data.x.permute(0, 3, 1, 2)):
        assert torch.equal(model.predict(x), expected)
    torch.testing.assert_close(model.predict(raw[0]), expected[:1])
    image = Image.fromarray(raw[3, :, :, 0].numpy())
    torch.testing.assert_close(model.predict(image), expected[3:4])
    with pytest.raises(ValueError, match=r"\(N, 12, 12, 1\) or .* or \(N, 8, 8, 1\)"):
        model.predict(np.zeros((2, 9, 9, 1), np.uint8))


def test_evaluate_measures_on_resized_images(trained: Path) -> None:
    import json

    summary = json.loads((trained / "summary.json").read_text())
    probabilities = mltricks.load(trained).predict(load().test.x)
    found = (probabilities.argmax(1) == load().test.y).float().mean()
    assert summary["test"]["accuracy"] == pytest.approx(float(found), abs=1e-6)


REFUSED = {
    "data.resize=0": r"data\.resize=0 is out of range",
    "data.resize=[8]": r"data\.resize=\[8\] must have 2 members",
    "data=digit_masks data.resize=16": r"data\.resize=16 is for images in memory",
    "data=digit_halves data.resize=16": r"data\.resize=16 is for images in memory",
    "data=image_folder data.path=x data.resize=16": r"the size of image_folder is data\.size",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_cannot_be_resized_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[typed]):
        load(*typed.split())
