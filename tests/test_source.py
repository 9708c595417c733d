"""The stream of batches: entered at any step, it gives the same batches as read from the start."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mltricks.config.compose import compose, plain
from mltricks.data.custom import load_data
from mltricks.data.source import Source, in_order
from mltricks.data.splits import MemorySplit
from mltricks.samplers.balanced import Balanced
from mltricks.samplers.sequential import Sequential
from mltricks.samplers.shuffle import Shuffle
from mltricks.samplers.weighted import Weighted

LABELS = torch.arange(50) % 3


def memory(size: int = 50) -> MemorySplit:
    return MemorySplit(torch.arange(size * 2.0).view(size, 2), LABELS[:size])


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "last batch kept": {"drop_last": False},
    "unlabelled": {"unlabeled": memory(17), "unlabeled_ratio": 3},
    "unlabelled, last batch kept": {"unlabeled": memory(50), "unlabeled_ratio": 1, "drop_last": False},
    "weighted": {"sampler": Weighted([0.2, 1, 0])},
    "balanced": {"sampler": Balanced()},
    "sequential": {"sampler": Sequential()},
}


@pytest.mark.parametrize("case", CASES)
def test_a_stream_can_be_entered_anywhere(case: str) -> None:
    settings = {"sampler": Shuffle(), "batch_size": 8, "seed": 5, "split": memory(), **CASES[case]}
    source = Source(**settings)
    assert source.steps_per_epoch == (6 if settings.get("drop_last", True) else 7)
    whole = list(islice(source.stream(0), 40))
    for start in (0, 1, 5, 6, 7, 13, 14, 29):
        entered = list(islice(source.stream(start), 40 - start))
        assert all(same(a, b) for a, b in zip(entered, whole[start:], strict=True)), start


def test_an_epoch_is_a_permutation_and_epochs_differ() -> None:
    source = Source(memory(48), Shuffle(), 8, seed=0)
    epochs = [torch.cat([b["x"][:, 0] for b in islice(source.stream(6 * e), 6)]) for e in range(3)]
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.arange(48) * 2.0)
    assert not torch.equal(epochs[0], epochs[1])
    other = torch.cat([b["x"][:, 0] for b in islice(Source(memory(48), Shuffle(), 8, seed=1).stream(0), 6)])
    assert not torch.equal(epochs[0], other)


def test_the_last_batch_may_be_smaller() -> None:
    source = Source(memory(), Shuffle(), 8, seed=0, drop_last=False)
    assert [len(b["y"]) for b in islice(source.stream(0), 8)] == [8] * 6 + [2, 8]


def test_unlabelled_samples_come_equally_often() -> None:
    source = Source(memory(), Shuffle(), 8, 0, unlabeled=memory(17), unlabeled_ratio=3)
    drawn = torch.cat([b["x_unlabeled"][:, 0] for b in islice(source.stream(0), 17)])
    assert all(len(b["x_unlabeled"]) == 24 for b in islice(source.stream(0), 3))
    assert torch.bincount((drawn / 2).long()).tolist() == [24] * 17


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size=64 is larger than the 50 .*data\.drop_last=false"):
        Source(memory(), Shuffle(), 64, seed=0)
    assert Source(memory(), Shuffle(), 64, seed=0, drop_last=False).steps_per_epoch == 1


def test_evaluation_sees_every_sample_once_in_order() -> None:
    x = torch.cat([b["x"] for b in in_order(memory(), 7)])
    assert torch.equal(x, memory().x)


def test_a_streamed_folder_can_be_entered_anywhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    overrides = ["data=image_folder", f"data.path={tmp_path}/images", f"data.root={tmp_path}", "data.size=8"]
    cfg = plain(compose([*overrides, "data.num_workers=2", "data.unlabeled_ratio=1"]))
    data = load_data(cfg["data"], [])
    source = Source(data.train, Shuffle(), 4, seed=0, unlabeled=data.unlabeled, unlabeled_ratio=1)
    whole = list(islice(source.stream(0), 16))
    assert source.steps_per_epoch == 5
    for start in (0, 3, 5, 11):
        stream = source.stream(start)
        assert all(same(next(stream), expected) for expected in whole[start:]), start
    assert torch.equal(whole[0]["y"], data.train.labels[source.order(0)[:4]])


def test_the_random_state_of_the_run_is_not_changed(tmp_path: Path) -> None:
    source = Source(memory(), Weighted([1, 1, 1]), 8, 0, unlabeled=memory(17), unlabeled_ratio=1)
    before = torch.random.get_rng_state()
    list(islice(source.stream(3), 20))
    assert torch.equal(torch.random.get_rng_state(), before)
