"""Cross-validation: the folds of a data set, and a sweep over them as one configuration."""

from __future__ import annotations

import csv
import doctest
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compare_folders import record
from conftest import Outcome
from sklearn.model_selection import StratifiedKFold

from mltricks.comparison.compared import compared
from mltricks.comparison.scores import score
from mltricks.config.compose import compose, plain
from mltricks.data.custom import load_data
from mltricks.data.partition import folds_of
from mltricks.data.splits import DataSplits
from mltricks.sweep import measured
from mltricks.sweep.statistics import mean_interval


def load(*overrides: str) -> DataSplits:
    cfg = plain(compose(list(overrides)))
    return load_data(cfg["data"], cfg["allow_modules"])


def rows(x: torch.Tensor) -> set[bytes]:
    return {bytes(image.numpy()) for image in x}


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_folds_divide_every_class_as_evenly_as_sklearns(folds: int) -> None:
    labels = torch.randint(0, 4, (101,), generator=torch.Generator().manual_seed(0)) ** 2 % 5
    found = folds_of(labels, 101, folds, 3)
    sizes = torch.bincount(found, minlength=folds)
    assert int(sizes.max() - sizes.min()) <= 1
    theirs = [labels[val] for _, val in StratifiedKFold(folds).split(labels, labels)]
    for c in labels.unique():
        mine = torch.bincount(found[labels == c], minlength=folds)
        assert sorted(mine.tolist()) == sorted(int((part == c).sum()) for part in theirs)
    assert torch.equal(found, folds_of(labels, 101, folds, 3))
    assert not torch.equal(found, folds_of(labels, 101, folds, 4))
    assert int(torch.bincount(folds_of(None, 101, folds, 3)).min()) == 101 // folds


def test_every_sample_is_validated_once_and_the_test_split_stays() -> None:
    plain_data = load()
    parts = [load("data.folds=3", f"data.fold={i}") for i in range(3)]
    whole = rows(torch.cat([plain_data.train.x, plain_data.val.x]))
    assert set().union(*(rows(p.val.x) for p in parts)) == whole
    assert sum(len(p.val) for p in parts) == len(plain_data.train) + len(plain_data.val)
    for part in parts:
        assert torch.equal(part.test.x, plain_data.test.x)
        assert len(part.train) + len(part.val) == len(plain_data.train) + len(plain_data.val)
        assert not rows(part.train.x) & rows(part.val.x)
    other = load("data.folds=3", "data.fold=0", "data.split_seed=1")
    assert rows(other.val.x) != rows(parts[0].val.x)
    limited = load("data.folds=3", "data.fold=0", "data.limit=50")
    assert (len(limited.train), len(limited.val)) == (50, len(parts[0].val))


def test_the_folds_of_a_text_are_contiguous_blocks(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcdefghij" * 40)
    given = ["data=text", f"data.path={tmp_path}/text.txt", "data.length=8", "data.test_frac=0.25"]
    starts = []
    for i in range(3):
        data = load(*given, "data.folds=3", f"data.fold={i}")
        train, val = data.train.starts, data.val.starts
        assert (int(val[0]), int(val[-1]) + 9 <= (i + 1) * 100) == (i * 100, True)
        assert all(int(s) + 9 <= i * 100 or int(s) >= (i + 1) * 100 for s in train)
        starts.append(data.test.starts)
    assert all(torch.equal(s, starts[0]) and int(s[0]) == 300 for s in starts)


REFUSED = {
    "data.fold=1": r"data\.fold=1 has no effect without data\.folds\. Type data\.folds=5",
    "data.folds=5": r"data\.fold=null is none of the 5 folds\. Allowed: 0 to 4;.* -m data\.fold=0,1,2,3,4",
    "data.folds=2 data.fold=2": r"data\.fold=2 is none of the 2 folds",
    "data.folds=1 data.fold=0": r"data\.folds=1 is out of range",
    "data.folds=4000 data.fold=0": r"data\.folds=4000 is more than the 1437 samples",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_folds_that_do_not_fit_are_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[typed]):
        load(*typed.split())


def test_the_examples_of_the_docstrings() -> None:
    found = doctest.testmod(measured)
    assert (found.attempted, found.failed) == (3, 0)


def test_a_sweep_over_folds_is_one_configuration(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    small = ["model=mlp", "model.width=4", "data.limit=64", "epochs=1", "progress=none", "hydra.sweep.dir=sweep"]
    done = run_cli("-m", *small, "data.folds=3", "data.fold=0,1,2", "optim.lr=0.001,0.03")
    assert done.status == 0, done.err
    values = {
        fold: json.loads((tmp_path / f"sweep/{2 * fold + 1}/summary.json").read_text())["objective"]["value"]
        for fold in range(3)
    }
    table = list(csv.DictReader((tmp_path / "sweep/sweep.csv").read_text().splitlines()))
    of_best = [row for row in table if row["optim.lr"] == "0.03"]
    found = mean_interval(list(values.values()))
    for row in of_best:
        assert (row["n"], row["interval_of"]) == ("3", "folds")
        assert float(row["mean"]) == pytest.approx(found.mean)
        assert [float(row[end]) for end in ("low", "high")] == pytest.approx([max(found.low, 0), min(found.high, 1)])
    assert "mean of 3 folds (jobs" in done.out
    last = [line for line in done.out.splitlines() if line.strip().startswith("python -m mltricks")][-1]
    assert "data.folds=3" in last
    assert "data.fold=0,1,2" in last
    page = (tmp_path / "sweep/sweep.html").read_text()
    assert "data.folds=3 optim.lr=0.03 data.fold=0,1,2" in page


def test_compared_runs_of_all_folds_are_one_configuration(tmp_path: Path) -> None:
    folders = [
        record(tmp_path / f"{i}", {"data.folds": 3, "data.fold": i}, val=value)
        for i, value in enumerate((0.5, 0.6, 0.7))
    ]
    found = compared([*folders, record(tmp_path / "lr", {"data.folds": 3, "data.fold": 0, "optim.lr": 0.5})])
    one = found.configurations[0]
    assert [e.folder.name for e in one.counted] == ["0", "1", "2"]
    measured_score = score(one, "val", "accuracy")
    assert measured_score is not None
    assert (measured_score.n, measured_score.over) == (3, "folds")
    assert [row.key for row in found.differences] == ["optim.lr"]
    assert not any("different data" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("sweeper", "said"),
    [("study", r"data.fold is swept, and a study would look for the easiest fold"), ("ablation", r"on one fold")],
)
def test_searches_and_ablations_refuse_folds(run_cli: Callable[..., Outcome], sweeper: str, said: str) -> None:
    more = ["n_trials=2"] if sweeper == "study" else []
    done = run_cli("-m", f"hydra/sweeper={sweeper}", "data.folds=3", "data.fold=0,1,2", "optim=sgd,adamw", *more)
    assert done.status == 1
    assert said in done.err
