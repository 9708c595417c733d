"""Random erasing and alternating flips: compared with torchvision, and with their definitions over whole epochs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from contract import make
from torch import Tensor
from torchvision.transforms import RandomErasing as Theirs

from mltricks.seen import seen_by_model
from mltricks.techniques.alternating_flip import coin
from mltricks.techniques.random_erasing import CANDIDATES, RandomErasing, rectangles

CTX: Any = None
"""A context; random erasing does not use it."""
SOURCE: dict[str, Any] = {"p": 1.0, "min_area": 0.02, "max_area": 0.4, "min_aspect": 0.3, "fill": "mean"}


def first_fit(shape: tuple[int, int], areas: list[float], aspects: list[float], place: list[float]) -> Tensor:
    """The mask of one image, by the loop of torchvision's ``get_params``, without its draws."""
    mask = torch.zeros(shape, dtype=torch.bool)
    for area, aspect in zip(areas, aspects, strict=True):
        h = round(math.sqrt(area * shape[0] * shape[1] * aspect))
        w = round(math.sqrt(area * shape[0] * shape[1] / aspect))
        if h < shape[0] and w < shape[1]:
            top, left = int(place[0] * (shape[0] - h + 1)), int(place[1] * (shape[1] - w + 1))
            mask[top : top + h, left : left + w] = True
            break
    return mask


def test_rectangles_equal_the_loop_of_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(200, 1, 12, 9)
    area = 0.02 + 1.4 * torch.rand(200, CANDIDATES, generator=generator)  # many candidates, and some images, do not fit
    aspect = torch.exp(2.4 * torch.rand(200, CANDIDATES, generator=generator) - 1.2)
    place = torch.rand(2, 200, generator=generator)
    found = rectangles(x, area, aspect, place)
    for i in range(200):
        expected = first_fit((12, 9), area[i].tolist(), aspect[i].tolist(), place[:, i].tolist())
        assert torch.equal(found[i, 0], expected)
    assert 0 < int((found.flatten(1).sum(1) == 0).sum()) < 100


def test_moments_equal_those_of_torchvision() -> None:
    """The share of erased pixels, of images with a rectangle, and the mean of every pixel's mask."""
    torch.manual_seed(0)
    x = torch.ones(4000, 1, 16, 16)
    ours = RandomErasing(**{**SOURCE, "p": 0.5}).batch({"x": x}, CTX)["x"] == 0
    erase = Theirs(0.5, (0.02, 0.4), (0.3, 1 / 0.3), 0)
    theirs = torch.stack([erase(image) for image in x]) == 0
    for a, b in ((ours, theirs), (ours.flatten(1).any(1), theirs.flatten(1).any(1))):
        assert abs(float(a.float().mean() - b.float().mean())) < 0.025  # four standard errors of 4000 images
    assert (ours.float().mean(0) - theirs.float().mean(0)).abs().max() < 0.04


def test_the_fill_is_noise_pixel_by_pixel_or_the_mean() -> None:
    x = torch.full((500, 2, 8, 8), 5.0)
    torch.manual_seed(1)
    noisy = RandomErasing(**{**SOURCE, "fill": "noise"}).batch({"x": x, "x_unlabeled": x}, CTX)
    values = noisy["x"][noisy["x"] != 5]
    assert (float(values.mean()), float(values.std())) == (pytest.approx(0, abs=0.05), pytest.approx(1, abs=0.05))
    assert not torch.equal(noisy["x_unlabeled"], noisy["x"])
    assert set(RandomErasing(**SOURCE).batch({"x": x}, CTX)["x"].unique().tolist()) == {0.0, 5.0}
    assert torch.equal(RandomErasing(**{**SOURCE, "p": 0.0}).batch({"x": x}, CTX)["x"], x)


def test_an_empty_range_of_areas_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_area=0\.5 is above max_area=0\.4.*min_area=0\.4 or less"):
        RandomErasing(**{**SOURCE, "min_area": 0.5})


# Alternating flip


def flipped(run: Any, epoch: int) -> dict[int, bool]:
    """Which images of one epoch the step mirrors, by their positions in the training split."""
    found = {}
    steps = run.source.steps_per_epoch
    for _, batch in zip(range(steps), run.batches(epoch * steps), strict=False):
        run.state = {**run.state, "step": torch.tensor(epoch * steps)}
        seen = run.techniques["alternating_flip"].batch(batch, context_of(run))["x"]
        for i, index in enumerate(batch["index"].tolist()):
            same, mirror = torch.equal(seen[i], batch["x"][i]), torch.equal(seen[i], batch["x"][i].flip(2))
            assert same != mirror, "no digit is its own mirror image"
            found[index] = mirror
    return found


def context_of(run: Any) -> Any:
    from mltricks.probes.layers import context

    return context(run).scope("alternating_flip")


def test_two_epochs_in_a_row_show_both_versions_of_every_image() -> None:
    run = make("technique=alternating_flip", "data.limit=160", "data.drop_last=false")
    epochs = [flipped(run, epoch) for epoch in range(3)]
    assert len(epochs[0]) == 160
    assert all(epochs[1][i] != epochs[0][i] for i in epochs[0])
    assert epochs[2] == epochs[0]
    assert 60 < sum(epochs[0].values()) < 100
    other = flipped(make("technique=alternating_flip", "data.limit=160", "seed=1"), 0)
    assert any(other[i] != epochs[0][i] for i in other)


def test_a_second_flip_would_undo_the_alternation_and_is_refused() -> None:
    with pytest.raises(ValueError, match=r"technique=flip and technique=alternating_flip both mirror.*augment=crop"):
        make("augment=standard", "technique=alternating_flip")


def test_the_coins_are_fair_and_independent_of_each_other() -> None:
    keys = torch.randint(1 << 62, (50,), generator=torch.Generator().manual_seed(0))
    coins = torch.stack([coin(torch.arange(2000), key) for key in keys]).float()
    assert float(coins.mean()) == pytest.approx(0.5, abs=0.01)
    assert (coins.mean(1) - 0.5).abs().max() < 0.05
    assert float((coins[:, 1:] == coins[:, :-1]).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert float((coins[1:] == coins[:-1]).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_unlabelled_images_are_mirrored_at_random_and_without_epochs_it_is_refused() -> None:
    run = make("technique=alternating_flip")
    batch = next(run.batches(0))
    batch = {**batch, "x_unlabeled": batch["x"].repeat(20, 1, 1, 1)}
    seen = seen_by_model(run, batch)["x_unlabeled"].unflatten(0, (20, -1))
    mirrored = (seen != run.data.info.normalize(batch["x"])).flatten(2).any(2)
    assert 0.4 < float(mirrored.float().mean()) < 0.6
    ctx = context_of(run)
    ctx.steps_per_epoch = None
    with pytest.raises(ValueError, match=r"alternating_flip counts epochs.*steps_per_epoch=N"):
        run.techniques["alternating_flip"].batch(batch, ctx)
