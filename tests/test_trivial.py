"""Trivial predictors compared with scikit-learn's, and the places that compare a model with them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Outcome
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, mean_absolute_error, mean_squared_error

from mltricks import trivial
from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.inputs.vector import Vector
from mltricks.objectives.classify import Classify
from mltricks.objectives.next_token import NextToken
from mltricks.objectives.regress import Regress
from mltricks.objectives.segment import Segment
from mltricks.summary import Summary
from mltricks.trivial import beats, constant, linear, most_targets, spread

NOISE = '''
import torch
from torch.utils.data import TensorDataset

def noise():
    """Labels that have nothing to do with the images, 85 % of them one class."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (800, 1, 8, 8), dtype=torch.uint8, generator=generator)
    y = torch.randint(1, 4, (800,), generator=generator)
    y[torch.rand(800, generator=generator) < 0.85] = 0
    return TensorDataset(x, y)
'''


def splits(y: torch.Tensor, target: str, num_outputs: int, x: torch.Tensor | None = None) -> DataSplits:
    x = torch.randn(len(y), 5, generator=torch.Generator().manual_seed(1)) if x is None else x
    train, val, test = (MemorySplit(x[i::3], y[i::3]) for i in range(3))
    return DataSplits(train, val, test, Info(Vector(tuple(x.shape[1:])), target, num_outputs))


def test_the_constant_prediction_of_classes_equals_scikit_learns() -> None:
    y = torch.multinomial(torch.tensor([0.2, 0.7, 0.1]), 300, True, generator=torch.Generator().manual_seed(0))
    data = splits(y, "classes", 4)
    found = constant(data, Classify(), 64, "val", "test")
    for name, split in (("val", data.val), ("test", data.test)):
        dummy = DummyClassifier().fit(data.train.x, data.train.y).predict(split.x)
        assert found[name]["accuracy"] == pytest.approx(accuracy_score(split.y, dummy))
        assert found[name]["f1"] == pytest.approx(f1_score(split.y, dummy, average="macro"))
        share = (torch.bincount(data.train.y, minlength=4) + 1) / (len(data.train) + 4)
        assert found[name]["loss"] == pytest.approx(float(-share.log()[split.y].mean()), rel=1e-6)


@pytest.mark.parametrize("width", [1, 2])
def test_the_constant_prediction_of_values_is_the_mean(width: int) -> None:
    y = torch.randn(90, width, generator=torch.Generator().manual_seed(0))
    data = splits(y if width > 1 else y[:, 0], "values", width)
    dummy = DummyRegressor().fit(data.train.x, data.train.y).predict(data.test.x)
    found = constant(data, Regress(), 16, "test")["test"]
    assert found["loss"] == pytest.approx(mean_squared_error(data.test.y, dummy), rel=1e-5)
    assert found["mae"] == pytest.approx(mean_absolute_error(data.test.y, dummy), rel=1e-5)


def test_the_constant_prediction_of_tokens_is_their_frequencies() -> None:
    y = torch.randint(3, (30, 7), generator=torch.Generator().manual_seed(0))
    data = splits(y, "tokens", 5)
    share = (torch.bincount(data.train.y.flatten(), minlength=5) + 1) / (70 + 5)
    found = constant(data, NextToken(), 4, "test")["test"]
    assert found["loss"] == pytest.approx(float(-share.log()[data.test.y].mean()), rel=1e-6)


def test_a_linear_model_is_fitted_if_the_task_allows_one() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 5, generator=generator)
    y = x @ torch.randn(5, 2, generator=generator)
    data = splits(y, "values", 2, x)
    reference = Ridge().fit(data.train.x, data.train.y).predict(data.test.x)
    found = linear(data, Regress(), 64, "test")["test"]
    assert found["loss"] == pytest.approx(mean_squared_error(data.test.y, reference), rel=1e-3)
    classes = splits(y.argmax(1), "classes", 3, x)  # the third class has no samples
    found, floor = linear(classes, Classify(), 64, "test")["test"], constant(classes, Classify(), 64, "test")["test"]
    assert found["accuracy"] > 0.9
    assert beats(found, floor, "accuracy", True, 200)
    assert linear(splits(torch.randint(3, (9, 4)), "tokens", 3), NextToken(), 4, "test") == {}
    assert linear(splits(torch.zeros(9, dtype=torch.int64), "classes", 3), Classify(), 4, "test") == {}


def test_the_linear_model_uses_samples_of_all_classes() -> None:
    assert spread(10, 4).tolist() == [0, 3, 6, 9]
    assert spread(3, 4).tolist() == [0, 1, 2]
    y = torch.arange(4).repeat_interleave(3000)
    x = torch.eye(4)[y] + 0.01 * torch.randn(len(y), 4, generator=torch.Generator().manual_seed(0))
    assert linear(splits(y, "classes", 4, x), Classify(), 512, "test")["test"]["accuracy"] == 1.0


def test_better_means_better_beyond_chance() -> None:
    floor = {"accuracy": 0.85, "loss": 0.6}
    error = math.sqrt(0.85 * 0.15 / 100)
    assert not beats({"accuracy": 0.85 + 1.9 * error, "loss": 0.58}, floor, "accuracy", True, 100)
    assert beats({"accuracy": 0.85 + 2.1 * error, "loss": 0.9}, floor, "accuracy", True, 100)
    assert beats({"accuracy": 0.85, "loss": 0.5}, floor, "accuracy", True, 100), "the loss falls before the score rises"
    assert not beats({"loss": 0.58}, {"loss": 0.6}, "loss", False, 100)


def test_a_run_and_its_report_show_the_trivial_predictors(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    summary = train_digits("plots=true", "max_steps=4")
    assert set(summary.trivial) == {"val", "test"}
    assert 0.05 < summary.trivial["test"]["accuracy"] < 0.2, "ten classes of about one size"
    text = (tmp_path / "run" / "report.html").read_text()
    for said in ("test accuracy of a constant prediction", "a constant prediction, test", "a linear model, validation"):
        assert said in text


def test_the_recipe_stops_if_labels_are_unrelated_to_the_images(
    run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "noise_data.py").write_text(NOISE)
    data = (
        "data=custom",
        "data._target_=noise_data.noise",
        "allow_modules=[noise_data]",
        "model=mlp",
        "model.width=16",
    )
    command = ("-m", "hydra/sweeper=recipe", *data, "recipe.budget_epochs=40", "hydra.sweep.dir=s", "progress=none")
    done = run_cli(*command, env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"})
    assert done.status == 1, done.out
    gates = json.loads((tmp_path / "s" / "recipe.json").read_text())["gates"]
    assert (gates[-1]["name"], gates[-1]["verdict"]) == ("coarse search", "fail")
    assert "no better than a constant prediction. For comparison: trivial predictor 0.8" in gates[-1]["reason"]
    assert gates[-1]["evidence"]["trivial predictor"] == pytest.approx(0.85, abs=0.05)


def test_the_constant_prediction_of_masks_is_the_share_of_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 30 * 16, True, generator=generator).view(30, 4, 4)
    data = splits(y, "mask", 3, torch.randn(30, 1, 4, 4, generator=generator))
    found = constant(data, Segment(), 4, "val", "test")
    share = (torch.bincount(data.train.y.flatten(), minlength=3) + 1) / (data.train.y.numel() + 3)
    for name, split in (("val", data.val), ("test", data.test)):
        assert found[name]["loss"] == pytest.approx(float(-share.log()[split.y].mean()), rel=1e-6)
        assert found[name]["accuracy"] == pytest.approx(float((split.y == 0).float().mean()))
        guess = torch.zeros(split.y.numel())
        assert found[name]["iou"] == pytest.approx(jaccard_score(split.y.flatten(), guess, average="macro"))


def test_few_large_targets_are_read_and_none_of_listed_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trivial, "MAX_NUMBERS", 100)
    masks = MemorySplit(torch.zeros(30, 1), torch.zeros(30, 4, 4, dtype=torch.int64))
    assert most_targets(masks) == 6, "of 16 pixels each"
    classes = MemorySplit(torch.zeros(30, 1), torch.zeros(30, dtype=torch.int64))
    monkeypatch.setattr(MemorySplit, "batches", lambda *_: pytest.fail("a sample was read"))
    assert most_targets(classes) is None
