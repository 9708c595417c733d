"""Labels from another run's predictions: which are kept, what stays untouched, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mltricks
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.data.fingerprint import first_difference
from mltricks.pseudo_labelling import percentile

DIGITS = ["data.labels_per_class=8", "model.width=4", "data.epoch_size=160", "epochs=3", "optim.lr=1e-2", "plots=false"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the labelled digits alone."""
    folder = tmp_path_factory.mktemp("run") / "first"
    mltricks.train(mltricks.compose([*DIGITS, "progress=none"]), folder)
    return folder


def second(first: Path, share: float, *more: str) -> Run:
    labels = [f"data.pseudo_labels={first}", f"data.pseudo_share={share}"]
    return build(plain(mltricks.compose([*DIGITS, *labels, *more])))


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 1.0])
def test_the_threshold_is_the_percentile_of_the_scores(share: float) -> None:
    scores = torch.rand(1001, generator=torch.Generator().manual_seed(0))
    threshold = percentile(scores, share)
    assert threshold == np.percentile(scores.double().numpy(), 100 - 100 * share)
    assert int((scores.double() >= threshold).sum()) == round(share * 1000) + 1


def test_equal_scores_are_kept_together() -> None:
    scores = torch.tensor([1.0] * 6 + [0.5] * 4)
    assert int((scores >= percentile(scores, 0.2)).sum()) == 6, "the authors keep all at the percentile"


def test_the_most_confident_samples_get_the_predicted_classes(first: Path) -> None:
    base, run = build(plain(mltricks.compose(DIGITS))), second(first, 0.3)
    predictor = mltricks.load(first)
    added = len(run.data.train) - 80
    assert torch.equal(run.data.train.x[:80], base.data.train.x), "labelled samples stay, with their labels"
    assert torch.equal(run.data.train.labels[:80], base.data.train.labels)
    whole = build(plain(mltricks.compose([o for o in DIGITS if "per_class" not in o]))).data.train
    labelled = {tuple(x) for x in base.data.train.x.flatten(1).tolist()}
    rest = torch.tensor([tuple(x) not in labelled for x in whole.x.flatten(1).tolist()])
    probabilities = predictor.predict(whole.x[rest])
    best = probabilities.max(1).values.double()
    assert added == int((best >= np.percentile(best.numpy(), 70)).sum())
    found = predictor.predict(run.data.train.x[80:]).max(1)
    assert torch.equal(found.indices, run.data.train.labels[80:])
    assert float(found.values.min()) >= np.percentile(best.numpy(), 70) - 1e-6
    right = {tuple(x): int(y) for x, y in zip(whole.x.flatten(1).tolist(), whole.y, strict=True)}
    truth = [right[tuple(x)] for x in run.data.train.x[80:].flatten(1).tolist()]
    share = (found.indices == torch.tensor(truth)).float().mean()
    note = next(m for m in run.messages if m.startswith("pseudo-labels"))
    assert f"{added:,} of {int(rest.sum()):,} samples" in note
    assert f"{float(share):.2%} of them are right" in note


def test_validation_and_test_stay_and_the_labels_are_part_of_what_identifies_the_data(first: Path) -> None:
    runs = [second(first, share) for share in (0.3, 0.3, 0.5)]
    for name in ("val", "test"):
        assert torch.equal(getattr(runs[0].data, name).x, getattr(runs[2].data, name).x)
    prints = [run.data.fingerprint for run in runs]
    assert first_difference(prints[0], prints[1]) is None
    assert first_difference(prints[0], prints[2]) == "samples.training"
    train = runs[0].data.train
    changed = replace(runs[0].data, train=train.relabelled(train.y.roll(1)))
    assert first_difference(prints[0], changed.fingerprint) == "content.training.labels"


REFUSED: dict[str, Any] = {
    "data.split_seed=3": "has data.split_seed=0, and this one 3",
    "data.labels_per_class=9": "has data.labels_per_class=8, and this one 9",
    "data=digit_halves model=two_towers model.width=4": "has data._target_=",
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_run_on_other_labelled_data_is_refused(first: Path, change: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[change]):
        second(first, 0.3, *change.split())


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no weights at"):
        second(tmp_path, 0.3)


def test_a_run_says_what_it_labelled_and_can_be_resumed(first: Path, tmp_path: Path) -> None:
    own = [f"data.pseudo_labels={first}", "data.pseudo_share=0.5", "progress=none"]
    mltricks.train(mltricks.compose([*DIGITS, *own, "max_steps=2"]), tmp_path / "second")
    messages = json.loads((tmp_path / "second" / "summary.json").read_text())["messages"]
    assert [m for m in messages if m.startswith("pseudo-labels: ")]
    again = mltricks.train(mltricks.compose([*DIGITS, *own, "max_steps=4"]), tmp_path / "second", resume=True)
    assert again.steps == 4


def test_the_experiment_labels_a_larger_share_in_every_run(tmp_path: Path) -> None:
    small = ["data=digits", "epochs=1", "data.epoch_size=32", "model.width=4", "plots=false", "progress=none"]
    mltricks.train(mltricks.compose(["experiment=curriculum_labeling", *small]), tmp_path / "run")
    sizes = []
    for stage in ("labelled", "share_20", "share_40", "share_60", "share_80", "share_100"):
        summary = json.loads((tmp_path / "run" / stage / "summary.json").read_text())
        assert summary["steps"] == 1
        told = [re.match(r"pseudo-labels: ([\d,]+) of ([\d,]+)", m) for m in summary["messages"]]
        sizes += [tuple(int(n.replace(",", "")) for n in m.groups()) for m in told if m]
    assert [total for _, total in sizes] == [sizes[0][1]] * 5
    assert [kept for kept, _ in sizes] == pytest.approx([sizes[0][1] * k / 5 for k in range(1, 6)], abs=2)
