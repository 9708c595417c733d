"""Samplers: how often each class and each sample is drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import WeightedRandomSampler

from mltricks.build import build
from mltricks.config.compose import compose, plain
from mltricks.data.splits import MemorySplit
from mltricks.samplers.balanced import Balanced
from mltricks.samplers.sequential import Sequential
from mltricks.samplers.shuffle import Shuffle
from mltricks.samplers.weighted import Weighted

SIZES = [900, 90, 10]


def imbalanced() -> MemorySplit:
    y = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))
    return MemorySplit(torch.zeros(len(y), 1), y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))])


def draws(sampler: Any, split: MemorySplit, epochs: int = 30) -> torch.Tensor:
    return torch.cat([sampler.order(split, seed) for seed in range(epochs)])


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """The chi-square statistic over the cells with probability above 0."""
    possible = expected > 0
    assert int(counts[~possible].sum()) == 0
    return float(((counts - expected).square() / expected)[possible].sum())


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.1, 0.0, 1.0], [5.0, 3.0, 2.0]])
def test_classes_are_drawn_by_their_weights_whatever_their_sizes(weights: list[float]) -> None:
    split = imbalanced()
    drawn = draws(Weighted(weights), split)
    share = torch.tensor(weights) / sum(weights)
    counts = torch.bincount(split.labels[drawn], minlength=3).float()
    assert chi_square(counts, share * len(drawn)) < 13.8  # 2 degrees of freedom, p = 0.001
    sizes = torch.tensor(SIZES, dtype=torch.float32)
    per_sample = (share / sizes)[split.labels] * len(drawn)
    assert chi_square(torch.bincount(drawn, minlength=1000).float(), per_sample) < 1143  # 999 degrees, p = 0.001


def test_weighted_equals_torch_in_distribution_and_draw_by_draw() -> None:
    split = imbalanced()
    weights, sizes = torch.tensor([5.0, 3.0, 2.0]).double(), torch.tensor(SIZES)
    theirs = WeightedRandomSampler(
        (weights / sizes)[split.labels].tolist(), 1000, generator=torch.Generator().manual_seed(7)
    )
    assert Weighted([5.0, 3.0, 2.0]).order(split, 7).tolist() == list(theirs)
    scaled = Weighted([0.5, 0.3, 0.2])
    ours = torch.bincount(split.labels[draws(scaled, split)], minlength=3).float()
    others = torch.cat([torch.tensor(list(theirs)) for _ in range(30)])
    reference = torch.bincount(split.labels[others], minlength=3).float()
    # two samples of equal size: sum of (a - b)^2 / (a + b), 2 degrees of freedom, p = 0.001
    assert float(((ours - reference).square() / (ours + reference)).sum()) < 13.8


def test_balanced_draws_every_class_equally_often() -> None:
    split = imbalanced()
    drawn = draws(Balanced(), split)
    counts = torch.bincount(split.labels[drawn], minlength=3).float()
    assert chi_square(counts, torch.full((3,), len(drawn) / 3)) < 13.8
    assert torch.equal(Balanced().order(split, 3), Weighted([1, 1, 1]).order(split, 3))


def test_shuffle_and_sequential_draw_every_sample_once() -> None:
    split = imbalanced()
    assert torch.equal(Sequential().order(split, 3), torch.arange(1000))
    assert torch.equal(Shuffle().order(split, 3).sort().values, torch.arange(1000))
    assert not torch.equal(Shuffle().order(split, 3), Shuffle().order(split, 4))


@pytest.mark.parametrize("weights", ["[1,1,-1,1,1,1,1,1,1,1]", "[0,0,0,0,0,0,0,0,0,0]", "[1,1]", "[1,a,1]", "[]"])
def test_wrong_weights_are_refused(weights: str) -> None:
    with pytest.raises(ValueError, match=r"sampler\.class_weights"):
        build(plain(compose(["sampler=weighted", f"sampler.class_weights={weights}"])))


@pytest.mark.parametrize("sampler", [Balanced(), Weighted([1.0])])
def test_data_without_classes_are_refused(sampler: Any) -> None:
    split = MemorySplit(torch.zeros(8, 2), torch.rand(8))
    with pytest.raises(ValueError, match=r"have no classes\. Type sampler=shuffle"):
        sampler.order(split, 0)


def test_a_class_of_weight_zero_is_never_trained_on() -> None:
    run = build(plain(compose(["sampler=weighted", "sampler.class_weights=[0,1,1,1,1,1,1,1,1,0]", "data.limit=200"])))
    stream = run.source.stream(0)
    seen = torch.cat([next(stream)["y"] for _ in range(2 * run.source.steps_per_epoch)])
    assert set(seen.tolist()) == set(range(1, 9))
    assert run.source.steps_per_epoch == 200 // 32
