"""Random resized crops against torchvision on the same boxes, and images that grow in the course of a run."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from contract import advance, make
from torchvision.transforms import RandomResizedCrop as Theirs
from torchvision.transforms.v2 import functional as tv

from mltricks.techniques.progressive_resizing import ProgressiveResizing, smaller
from mltricks.techniques.random_resized_crop import CANDIDATES, RandomResizedCrop, resized_boxes

SOURCE: dict[str, Any] = {"min_scale": 0.08, "max_scale": 1.0, "min_ratio": 3 / 4, "max_ratio": 4 / 3}
CTX: Any = None
"""A context; random resized crops do not use it."""


def images(count: int, channels: int = 3, height: int = 12, width: int = 17) -> torch.Tensor:
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_are_resized_as_by_torchvision(channels: int) -> None:
    x = images(40, channels)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(1, 13, (40,), generator=generator)
    columns = torch.randint(1, 18, (40,), generator=generator)
    top = (torch.rand(40, generator=generator) * (12 - rows + 1)).long()
    left = (torch.rand(40, generator=generator) * (17 - columns + 1)).long()
    found = resized_boxes(x, *(t.float() for t in (top, left, rows, columns)))
    for i in range(40):
        box = int(top[i]), int(left[i]), int(rows[i]), int(columns[i])
        for antialias in (True, False):  # without effect, as no box is larger than the image
            expected = tv.resized_crop(x[i], *box, [12, 17], antialias=antialias)
            torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=1e-5)
    whole = resized_boxes(x, *(torch.full((40,), float(n)) for n in (0, 0, 12, 17)))
    assert torch.equal(whole, x)


def loop(shape: tuple[int, int], scales: list[float], ratios: list[float], place: list[float]) -> tuple[int, ...]:
    """The box of one image, by the loop of torchvision's ``get_params``, without its draws."""
    height, width = shape
    for scale, ratio in zip(scales, ratios, strict=True):
        w, h = round(math.sqrt(scale * height * width * ratio)), round(math.sqrt(scale * height * width / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(place[0] * (height - h + 1)), int(place[1] * (width - w + 1)), h, w
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("shape", [(12, 12), (8, 30), (30, 8)])
def test_the_boxes_are_those_of_torchvisions_loop(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.zeros(300, 1, *shape)
    scale = 0.5 + torch.rand(300, CANDIDATES, generator=generator)  # many candidates do not fit, nor does any of some
    ratio = torch.exp((2 * torch.rand(300, CANDIDATES, generator=generator) - 1) * math.log(4 / 3))
    place = torch.rand(2, 300, generator=generator)
    found = torch.stack(RandomResizedCrop(**SOURCE).boxes(x, scale, ratio, place), 1)
    expected = [loop(shape, scale[i].tolist(), ratio[i].tolist(), place[:, i].tolist()) for i in range(300)]
    assert found.long().tolist() == [list(box) for box in expected]


def test_areas_and_aspects_have_torchvisions_distribution() -> None:
    torch.manual_seed(0)
    x = torch.zeros(6000, 1, 32, 32)
    draws = torch.rand(2, 6000, CANDIDATES)
    technique = RandomResizedCrop(**SOURCE)
    ratio = torch.exp((2 * draws[1] - 1) * math.log(4 / 3))
    _, _, h, w = technique.boxes(x, 0.08 + 0.92 * draws[0], ratio, torch.rand(2, 6000))
    theirs = torch.tensor([Theirs.get_params(x[0], [0.08, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(6000)]).float()
    for a, b in ((h * w / 1024, theirs.prod(1) / 1024), ((w / h).log(), (theirs[:, 1] / theirs[:, 0]).log())):
        for moment in (torch.mean, torch.std):
            assert abs(float(moment(a) - moment(b))) < 4 * float(b.std()) / math.sqrt(3000)


def test_it_crops_every_image_by_itself_and_can_be_off() -> None:
    x = images(6)
    torch.manual_seed(3)
    found = RandomResizedCrop(**SOURCE).batch({"x": x, "x_unlabeled": x[:4]}, CTX)
    assert found["x_unlabeled"].shape == (4, 3, 12, 17)
    assert not torch.equal(found["x"][:4], found["x_unlabeled"])
    square = x[..., :12]
    off = RandomResizedCrop(min_scale=1.0, max_scale=1.0, min_ratio=1.0, max_ratio=1.0)
    assert torch.equal(off.batch({"x": square}, CTX)["x"], square)
    for name in ("scale", "ratio"):
        with pytest.raises(ValueError, match=rf"min_{name}=1 is above max_{name}=0\.5"):
            RandomResizedCrop(**{**SOURCE, f"min_{name}": 1, f"max_{name}": 0.5})


# Progressive resizing


def composer(progress: float, side: int, start: float, delay: float, full: float, step: int) -> int:
    """The size as MosaicML Composer computes it."""
    if progress >= 1 - full:
        return side
    grown = max(progress - delay, 0.0) / (1 - delay - full)
    scale = start + (1 - start) * grown
    return int(scale * side + 1e-9) // step * step


@pytest.mark.parametrize(("side", "step"), [(32, 4), (28, 4), (96, 16), (30, 4)])
def test_the_sizes_are_those_of_composer(side: int, step: int) -> None:
    technique = ProgressiveResizing(start=0.5, delay_frac=0.5, full_frac=0.2, step=step)
    table = technique.shapes((3, side, side))
    starts = [begin for begin, _ in table]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    for i in range(1000):
        found = [shape for begin, shape in table if begin <= i / 1000 + 1e-12][-1]
        assert found == (3, *[composer(i / 1000, side, 0.5, 0.5, 0.2, step)] * 2), i
    assert ProgressiveResizing(1.0, 0.5, 0.2, 4).shapes((3, side, side)) == ()
    assert technique.shapes((1, 16, 32))[0] == (0.0, (1, 16 // 2 // step * step or min(step, 16), 16 // step * step))


def test_images_are_resized_as_by_torchvision() -> None:
    x = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = smaller(x, 20, 20)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, tv.resize(x.float(), [20, 20], antialias=True).round().to(torch.uint8))
    torch.testing.assert_close(smaller(x.float(), 20, 20), tv.resize(x.float(), [20, 20], antialias=True))


def test_a_run_sees_the_sizes_and_ends_with_whole_images() -> None:
    typed = ["technique=progressive_resizing", "model=resnet9", "model.width=4"]
    run = make(*typed, "technique.progressive_resizing.start=0.5", "data.limit=96", "data.resize=16", "epochs=2")
    seen = [next(run.batches(step))["x"].shape[-1] for step in range(run.total_steps)]
    assert seen == [8] * 8 + [12] * 2 + [16] * 2
    assert len(advance(run, 12)) == 12


def test_a_step_that_leaves_no_smaller_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"step=28 leaves no size below that of the images, 28x28.*step=3\."):
        ProgressiveResizing(0.5, 0.5, 0.2, 28).shapes((1, 28, 28))
    assert ProgressiveResizing(0.5, 0.5, 0.2, 27).shapes((1, 28, 28))[0] == (0.0, (1, 27, 27))


def test_more_than_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"delay_frac=0\.9 and full_frac=0\.2 are more than the run"):
        ProgressiveResizing(0.5, 0.9, 0.2, 4)
