"""Crop, flip and cutout: compared pixel by pixel with slow references and torchvision, and as part of a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import EXACT
from contract import advance, largest_difference, make
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from mltricks.config.compose import compose, plain
from mltricks.step import split_at_normalize
from mltricks.techniques.crop import Crop, crop
from mltricks.techniques.cutout import Cutout, square
from mltricks.techniques.flip import Flip, flip

CTX: Any = None
"""A context; none of the three techniques uses it."""


def images(
    count: int = 12, channels: int = 3, height: int = 9, width: int = 11, dtype: torch.dtype = torch.uint8
) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=generator)
    return x.permute(0, 3, 1, 2).to(dtype)


FORMS = [
    pytest.param(lambda: images(), id="bytes"),
    pytest.param(lambda: images(channels=1), id="one channel"),
    pytest.param(lambda: images(dtype=torch.float32), id="floats"),
    pytest.param(lambda: images().contiguous(), id="channels first"),
]


# Crop


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("fill", "mode"), [("reflect", "reflect"), ("zero", "constant")])
@pytest.mark.parametrize("padding", [1, 4, 8])
def test_crop_equals_torchvision_sample_by_sample(form: Any, fill: str, mode: str, padding: int) -> None:
    x = form()
    before = x.clone()
    top, left = torch.randint(0, 2 * padding + 1, (2, len(x)), generator=torch.Generator().manual_seed(1))
    top[0], left[0], top[1], left[1] = 0, 0, 2 * padding, 2 * padding
    found = crop(x, top, left, padding, fill)
    for i in range(len(x)):
        padded = tv.pad(x[i], [padding] * 4, padding_mode=mode)
        assert torch.equal(found[i], tv.crop(padded, int(top[i]), int(left[i]), *x.shape[2:]))
    assert found.dtype == x.dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)


def test_crop_draws_every_shift_of_each_image_by_itself() -> None:
    x = torch.zeros(4000, 1, 5, 5, dtype=torch.uint8)
    x[:, :, 2, 2] = 1
    torch.manual_seed(0)
    found = Crop(2, "zero").batch({"x": x}, CTX)["x"]
    assert torch.equal(found.flatten(1).sum(1), torch.ones(4000))
    counts = found.sum(0).flatten().float()  # where the dot went: 25 places, equally likely
    assert float((counts - 160).square().sum() / 160) < 51.2  # 24 degrees of freedom, p = 0.001


def test_crop_in_the_middle_gives_the_image_back() -> None:
    x = images()
    centre = torch.full((len(x),), 4)
    assert torch.equal(crop(x, centre, centre, 4, "reflect"), x)


# Flip


@pytest.mark.parametrize("form", FORMS)
def test_flip_mirrors_the_chosen_images(form: Any) -> None:
    x = form()
    chosen = torch.arange(len(x)) % 3 == 0
    found = flip(x, chosen)
    for i in range(len(x)):
        assert torch.equal(found[i], tv.horizontal_flip(x[i]) if chosen[i] else x[i])
    assert found.dtype == x.dtype
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_flip_has_the_configured_frequency(p: float) -> None:
    x = torch.tensor([0, 1], dtype=torch.uint8).expand(20_000, 1, 1, 2)
    torch.manual_seed(0)
    share = float(Flip(p).batch({"x": x}, CTX)["x"][:, 0, 0, 0].float().mean())
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / 20_000) ** 0.5)


# Cutout


@pytest.mark.parametrize("size", [1, 3, 4])
def test_cutout_blanks_a_square_that_the_border_may_cut(size: int) -> None:
    height, width = 9, 11
    rows, columns = (v.flatten() for v in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    found = square(torch.zeros(height * width, 2, height, width), rows, columns, size)[:, 0]
    for mask, row, column in zip(found, rows.tolist(), columns.tolist(), strict=True):
        expected = torch.zeros(height, width, dtype=torch.bool)
        top, left = row - size // 2, column - size // 2
        expected[max(top, 0) : top + size, max(left, 0) : left + size] = True
        assert torch.equal(mask, expected)
    inside = found[(4 * width) + 5]
    assert int(inside.sum()) == size * size


def test_cutout_changes_only_the_square_and_centres_it_anywhere() -> None:
    x = torch.ones(3000, 2, 5, 7)
    torch.manual_seed(0)
    found = Cutout(1).batch({"x": x}, CTX)["x"]
    assert torch.equal(found[:, 0], found[:, 1]), "all channels of an image are treated alike"
    assert torch.equal((found[:, 0] == 0).flatten(1).sum(1), torch.ones(3000))
    counts = (found[:, 0] == 0).sum(0).flatten().float()
    assert float((counts - 3000 / 35).square().sum() / (3000 / 35)) < 65.3  # 34 degrees of freedom, p = 0.001
    assert float(x.min()) == 1.0


# All of them


@pytest.mark.parametrize("technique", [Crop(2, "reflect"), Flip(0.5), Cutout(3)])
def test_augmentation_changes_only_labelled_and_unlabelled_images(technique: Any) -> None:
    x = images(200).float() + 1
    batch = {"x": x, "x_unlabeled": x.clone(), "y": torch.arange(200)}
    torch.manual_seed(0)
    found = technique.batch(batch, CTX)
    assert found["y"] is batch["y"]
    assert found.keys() == batch.keys()
    assert not torch.equal(found["x"], x)
    assert not torch.equal(found["x_unlabeled"], x)
    assert not torch.equal(found["x"], found["x_unlabeled"]), (
        "labelled and unlabelled images have separate random draws"
    )


LISTS = {
    "none": [],
    "crop": ["crop"],
    "flip": ["flip"],
    "standard": ["crop", "flip"],
    "cutout": ["crop", "flip", "cutout"],
}


@pytest.mark.parametrize("option", LISTS)
def test_an_augment_option_is_a_list_of_techniques_in_order(option: str) -> None:
    cfg = plain(compose([f"augment={option}", "technique=mixup"]))
    assert list(cfg["technique"]) == [*LISTS[option], "mixup"]


def test_crop_and_flip_work_on_bytes_and_the_rest_after_normalisation() -> None:
    run = make("augment=cutout", "technique=mixup", "technique.cutout.size=3")
    raw, ready = split_at_normalize(run.techniques)
    assert (raw, ready) == (["crop", "flip"], ["cutout", "mixup"])


STACK = ["augment=cutout", "technique.cutout.size=3", "technique.crop.padding=1"]


def test_a_traced_step_equals_the_eager_one() -> None:
    eager, traced = make(*STACK), make(*STACK, "engine=traced")
    assert advance(eager, 4) == pytest.approx(advance(traced, 4), rel=1e-6)
    assert largest_difference(eager.state["params"], traced.state["params"]) < 1e-6


def test_rows_of_a_stack_equal_the_runs_alone() -> None:
    from mltricks.stack.run import train_stacked

    overrides = [["technique.flip.p=0.1", "seed=0"], ["technique.flip.p=0.9", "seed=1"]]
    common = ["data.limit=160", "model=mlp", "max_steps=4", *STACK, *EXACT]
    trials = train_stacked([plain(compose([*common, *own])) for own in overrides])
    for trial, own in zip(trials, overrides, strict=True):
        from mltricks.build import build

        alone = advance(build(plain(compose([*common, *own]))), 4)
        assert trial.losses.tolist() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (
            ["technique=crop", "technique.crop.padding=8"],
            r"technique\.crop\.padding=8 .*Type technique\.crop\.padding=1",
        ),
        (["technique=crop", "technique.crop.padding=-1"], r"technique\.crop\.padding=-1"),
        (["technique=crop", "technique.crop.fill=wrap"], r"technique\.crop\.fill=wrap"),
        (["technique=flip", "technique.flip.p=1.5"], r"technique\.flip\.p=1\.5"),
        (
            ["technique=cutout", "technique.cutout.size=9"],
            r"technique\.cutout\.size=9 .*Type technique\.cutout\.size=4",
        ),
        (["technique=cutout", "technique.cutout.size=0"], r"technique\.cutout\.size=0"),
    ],
)
def test_wrong_settings_are_refused(overrides: list[str], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        make(*overrides)
