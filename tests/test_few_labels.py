"""Few labels: samples of each class, samples without labels, epochs longer than the labelled part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import make
from PIL import Image
from torch import Tensor

import mltricks
from mltricks.config.compose import compose, plain
from mltricks.data.custom import adapt, load_data
from mltricks.data.partition import per_class
from mltricks.data.source import Source
from mltricks.data.splits import MemorySplit
from mltricks.samplers.balanced import Balanced
from mltricks.samplers.shuffle import Shuffle

HIDDEN = {"labels_per_class": 4, "unlabeled_ratio": 2}


@cache
def node() -> dict[str, Any]:
    """The settings that all data options share."""
    return dict(plain(compose(["data=mnist"]))["data"])


def load(option: str = "digits", **settings: Any) -> Any:
    """The splits of a data option, with the common settings' defaults."""
    target = f"mltricks.data.{option}.{option.title().replace('_', '')}"
    own = {"classes": None} if option == "digits" else {}
    return load_data({**node(), **own, "_target_": target, **settings}, [])


def test_every_class_gives_its_samples_and_a_smaller_number_is_part_of_a_larger() -> None:
    labels = torch.randint(3, (90,), generator=torch.Generator().manual_seed(0))
    four, rest = per_class(labels, 4, seed=7)
    assert torch.bincount(labels[four]).tolist() == [4, 4, 4]
    assert torch.equal(torch.cat([four, rest]).sort().values, torch.arange(90))
    assert set(four.tolist()) < set(per_class(labels, 9, seed=7)[0].tolist())
    assert not torch.equal(four, per_class(labels, 4, seed=8)[0])


def test_labels_are_counted_by_class_and_the_other_splits_stay() -> None:
    whole, few = load(), load(**HIDDEN)
    assert torch.bincount(few.train.labels).tolist() == [4] * 10
    for name in ("val", "test"):
        assert torch.equal(getattr(whole, name).x, getattr(few, name).x)
    assert torch.equal(whole.info.input.mean, few.info.input.mean), "statistics are of all training images"
    assert torch.equal(few.train.x, load(**HIDDEN).train.x)
    assert not torch.equal(few.train.x, load(**HIDDEN, split_seed=1).train.x)


def rows(x: Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in x.flatten(1).tolist()}


def test_unlabelled_samples_are_all_or_those_without_a_label() -> None:
    every, rest = load(**HIDDEN), load(**HIDDEN, unlabeled_from="rest")
    assert len(every.unlabeled) == len(every.unlabeled.labels) == len(rest.unlabeled) + 40
    assert rows(every.train.x) < rows(every.unlabeled.x)
    assert not rows(rest.train.x) & rows(rest.unlabeled.x)


def test_hidden_classes_reach_the_batch_and_belong_to_its_samples() -> None:
    run = make(
        "data.labels_per_class=4", "data.unlabeled_ratio=2", "data.limit=null", "batch_size=8", "technique=fixmatch"
    )
    known = {
        tuple(x): int(y) for x, y in zip(run.data.unlabeled.x.flatten(1).tolist(), run.data.unlabeled.y, strict=True)
    }
    for batch in islice(run.batches(), 3):
        shown = batch["x_unlabeled"].permute(0, 2, 3, 1).flatten(1).tolist()
        assert batch["y_unlabeled"].tolist() == [known[tuple(x)] for x in shown]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "limit too": ({"labels_per_class": 4, "limit": 50}, "data.labels_per_class=4 and data.limit=50 both"),
    "fraction too": ({"labels_per_class": 4, "fraction": 0.5}, "data.fraction=0.5 both"),
    "too many": ({"labels_per_class": 500}, r"class number \d has \d+ samples .* Type data.labels_per_class=\d+"),
    "rest of nothing": ({"unlabeled_from": "rest", "unlabeled_ratio": 1}, "every sample has its label"),
    "rest alone": ({"unlabeled_from": "rest"}, "Type data.unlabeled_ratio=7"),
    "run alone": ({"pseudo_labels": "RUN"}, "Type data.pseudo_share=0.2"),
    "share alone": ({"pseudo_share": 0.2}, "Type data.pseudo_labels=RUN"),
    "pixels": ({"option": "digit_masks", "labels_per_class": 4}, "these are mask"),
    "pairs": ({"option": "digit_pairs", "labels_per_class": 4}, "these are similarity"),
    "text": (
        {"option": "text", "path": __file__, "length": 8, "stride": None, "test_frac": 0.1, "labels_per_class": 4},
        "the targets of these data are no classes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_do_not_fit_are_refused(case: str) -> None:
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        load(**settings)


LABELS = torch.arange(12) % 3


def source(**changes: Any) -> Source:
    split = MemorySplit(torch.arange(24.0).view(12, 2), LABELS)
    return Source(**{"split": split, "sampler": Shuffle(), "batch_size": 8, "seed": 5, **changes})


def test_an_epoch_repeats_the_samples_and_can_be_entered_anywhere() -> None:
    long = source(batch_size=20, epoch_size=60)
    assert long.steps_per_epoch == 3
    drawn = torch.cat([b["index"] for b in islice(long.stream(0), 6)])
    for part in drawn.split(12):
        assert torch.equal(part.sort().values, torch.arange(12)), "one permutation after another"
    assert len({tuple(part.tolist()) for part in drawn.split(12)}) == 10
    whole = list(islice(long.stream(0), 8))
    for start in (1, 3, 5):
        for a, b in zip(islice(long.stream(start), 3), whole[start:], strict=False):
            assert torch.equal(a["x"], b["x"])


def test_an_epoch_may_be_a_part_of_the_samples() -> None:
    assert source(batch_size=4, epoch_size=8).steps_per_epoch == 2


def test_a_balanced_epoch_of_few_samples_is_as_long_as_it_is_asked_to_be() -> None:
    drawn = torch.cat([b["y"] for b in islice(source(sampler=Balanced(), epoch_size=4800).stream(0), 600)])
    assert torch.bincount(drawn).div(4800).sub(1 / 3).abs().max() < 0.03


@pytest.mark.parametrize("sampler", [Shuffle(), Balanced()])
def test_a_batch_larger_than_the_samples_is_refused_with_the_way_out(sampler: Any) -> None:
    with pytest.raises(ValueError, match=r"batch_size=64 is larger .* data.epoch_size=6400 to draw samples repeatedly"):
        source(batch_size=64, sampler=sampler)


def pairs(size: int, y: Sequence[int]) -> list[tuple[np.ndarray[Any, Any], int]]:
    return [(np.full((4, 4, 3), i, np.uint8), y[i % len(y)]) for i in range(size)]


def test_a_third_data_set_is_the_unlabelled_part() -> None:
    common = {**node(), "test_frac": 0.2, "unlabeled_ratio": 1}
    del common["_target_"]
    parts = pairs(40, [0, 1]), pairs(10, [0, 1]), pairs(25, [-1])
    splits = adapt(parts, {**common, "labels_per_class": 3})
    assert len(splits.train) == 6
    assert len(splits.unlabeled) == 36 + 25
    assert splits.unlabeled.labels.tolist().count(-1) == 25
    rest = adapt(parts, {**common, "unlabeled_from": "rest"})
    assert rest.unlabeled.labels.tolist() == [-1] * 25, "all others have labels"


def test_a_folder_beside_the_classes_is_the_unlabelled_part(tmp_path: Path) -> None:
    for part, count in (("train/a", 6), ("train/b", 6), ("test/a", 1), ("test/b", 1), ("unlabeled", 5)):
        (tmp_path / part).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(tmp_path / part / f"{i}.png")
    place = {"path": str(tmp_path), "root": str(tmp_path), "size": 8, "test_frac": 0.1, "num_workers": 0}
    splits = load("image_folder", **place, unlabeled_ratio=1, labels_per_class=2, unlabeled_from="rest")
    assert splits.train.labels.tolist() == [0, 0, 1, 1]
    assert sorted(splits.unlabeled.labels.tolist()).count(-1) == 5
    batch = next(splits.unlabeled.batches([torch.arange(len(splits.unlabeled))]))
    assert torch.equal(batch["y"], splits.unlabeled.labels)
    other = splits.unlabeled.relabelled(torch.arange(len(splits.unlabeled)))
    assert next(other.batches([torch.tensor([2, 0])]))["y"].tolist() == [2, 0]
    assert len(load("image_folder", **place).train) == 11, "without unlabelled_ratio the folder is not read"


def test_splits_of_a_program_may_have_an_unlabelled_part(tmp_path: Path) -> None:
    splits = load("digits", labels_per_class=4, unlabeled_ratio=1)
    small = ["technique=pseudo_label", "data.unlabeled_ratio=3", "data.epoch_size=64", "epochs=1", "model.width=4"]
    quiet = ["batch_size=8", "plots=false", "progress=none"]
    result = mltricks.train(mltricks.compose([*small, *quiet]), tmp_path / "run", data=splits)
    assert result.steps == 8
    assert 0.0 <= result.train["unlabeled_accuracy"] <= 1.0
