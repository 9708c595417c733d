"""Nearest neighbours and linear fits on features: scikit-learn's, lightly's, and what can be computed by hand."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from mltricks.data.info import Info
from mltricks.features.encoder import Samples
from mltricks.features.scores import Task, by_linear_model, by_neighbours, drawn, measured, task_of
from mltricks.functional.linear_fit import Linear, logistic, ridge, standardize
from mltricks.functional.neighbours import class_votes, nearest, vote_weights
from mltricks.inputs.vector import Vector
from mltricks.objectives.classify import Classify
from mltricks.objectives.regress import Regress

CLASSES, VALUES = Task(Classify(), 4), Task(Regress(), 2)


def clouds(num: int, seed: int, spread: float = 1.5) -> Samples:
    """Four overlapping classes in six dimensions."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, 6, generator=torch.Generator().manual_seed(9))
    y = torch.arange(num) % 4
    return Samples(centres[y] + spread * torch.randn(num, 6, generator=generator), y)


def planes(num: int, seed: int) -> Samples:
    """Two linear functions of six features, with noise."""
    x = clouds(num, seed).x
    slopes = torch.randn(6, 2, generator=torch.Generator().manual_seed(5))
    return Samples(x, x @ slopes + 3 + 0.1 * torch.randn(num, 2, generator=torch.Generator().manual_seed(seed + 50)))


# Neighbours


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.1), (30, 0.5), (200, 0.07)])
def test_votes_are_those_of_scikit_learn(k: int, temperature: float) -> None:
    bank, queries = clouds(200, 0), clouds(60, 1)

    def weigh(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / temperature)

    theirs = KNeighborsClassifier(k, weights=weigh, metric="cosine", algorithm="brute").fit(bank.x, bank.y)
    ours = by_neighbours(bank, CLASSES, k, temperature)(queries.x).exp()
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(queries.x), atol=2e-5)


def test_values_are_the_weighted_mean_of_scikit_learn() -> None:
    bank, queries = planes(150, 0), planes(40, 1)

    def weigh(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / 0.2)

    theirs = KNeighborsRegressor(9, weights=weigh, metric="cosine", algorithm="brute").fit(bank.x, bank.y)
    ours = by_neighbours(bank, VALUES, 9, 0.2)(queries.x)
    np.testing.assert_allclose(ours.numpy(), theirs.predict(queries.x), rtol=1e-4, atol=1e-4)
    flat = Samples(bank.x, bank.y[:, 0])
    torch.testing.assert_close(by_neighbours(flat, Task(Regress(), 1), 9, 0.2)(queries.x), ours[:, :1])


def test_lightlys_prediction_is_the_same() -> None:
    """Loaded from its file: its package imports pytorch_lightning, which is not installed."""
    spec = importlib.util.find_spec("lightly")
    if spec is None or spec.origin is None:
        pytest.skip("lightly is not installed")
    path = Path(spec.origin).parent / "utils/benchmarking/knn.py"
    made = importlib.util.spec_from_file_location("lightly_knn", path)
    assert made is not None
    assert made.loader is not None
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    bank, queries = clouds(300, 0, 3.0), clouds(80, 1, 3.0)
    unit = torch.nn.functional.normalize
    theirs = module.knn_predict(unit(queries.x, dim=1), unit(bank.x, dim=1).T, bank.y, 4, knn_k=50, knn_t=0.1)
    ours = by_neighbours(bank, CLASSES, 50, 0.1)(queries.x)
    assert torch.equal(ours.argsort(dim=1, descending=True), theirs)


def test_a_vote_by_hand() -> None:
    """Neighbours at angles of 0, 60 and 90 degrees with temperature 1: weights e, e^0.5 and 1."""
    bank = torch.tensor([[2.0, 0.0], [0.5, 0.75**0.5], [0.0, 5.0]])
    similarity, at = nearest(torch.tensor([[3.0, 0.0]]), bank, 3)
    torch.testing.assert_close(similarity, torch.tensor([[1.0, 0.5, 0.0]]))
    assert at.tolist() == [[0, 1, 2]]
    shares = class_votes(vote_weights(similarity, 1.0), torch.tensor([[0, 1, 1]]), 2)
    total = math.e + math.e**0.5 + 1
    torch.testing.assert_close(shares, torch.tensor([[math.e / total, (math.e**0.5 + 1) / total]]))
    far = vote_weights(torch.tensor([[1.0, 0.9]]), 1e-3)
    assert far.isfinite().all(), "exp(1000) does not overflow"


def test_pieces_change_nothing_and_bound_the_memory() -> None:
    bank, queries = clouds(100, 0).x, clouds(37, 1).x
    whole, pieces = nearest(queries, bank, 5), nearest(queries, bank, 5, most=300)
    assert torch.equal(whole[1], pieces[1])
    torch.testing.assert_close(whole[0], pieces[0])
    assert nearest(torch.zeros(1, 6), bank, 2)[0].tolist() == [[0.0, 0.0]]


# Linear fits


@pytest.mark.parametrize("l2", [1e-3, 0.1])
def test_logistic_regression_is_scikit_learns(l2: float) -> None:
    train, test = clouds(400, 0), clouds(50, 1)
    theirs = LogisticRegression(C=1 / (l2 * 400), tol=1e-8, max_iter=2000).fit(train.x.double(), train.y)
    ours = logistic(train.x, train.y, 4, l2, 1000)
    assert ours.converged
    np.testing.assert_allclose(ours.weight.T.numpy(), theirs.coef_, atol=2e-3)
    np.testing.assert_allclose(ours(test.x).softmax(1).numpy(), theirs.predict_proba(test.x.double()), atol=1e-3)
    again = logistic(train.x, train.y, 4, l2, 1000, Linear(torch.ones(6, 4), torch.ones(4)))
    torch.testing.assert_close(again(test.x).softmax(1), ours(test.x).softmax(1), atol=1e-3, rtol=0)
    assert not logistic(train.x, train.y, 4, l2, 2).converged


def test_logistic_regression_of_two_points_is_the_closed_form() -> None:
    """Points at +1 and -1: the weights of the classes are w and -w with l2 w = sigmoid(-2w)."""
    found = logistic(torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1]), 2, 0.1, 100)
    w = float(found.weight[0, 0])
    assert float(found.weight[0, 1]) == pytest.approx(-w, abs=1e-5)
    assert 0.1 * w == pytest.approx(1 / (1 + math.exp(2 * w)), abs=1e-5)
    assert found.bias.tolist() == pytest.approx([0.0, 0.0], abs=1e-5)


def test_a_class_without_samples_is_never_predicted() -> None:
    train = clouds(200, 0, 0.1)
    fit = logistic(train.x, train.y, 6, 1e-3, 300)
    assert set(fit(train.x).argmax(1).tolist()) == {0, 1, 2, 3}
    assert (fit(train.x).argmax(1) == train.y).all()


@pytest.mark.parametrize("l2", [1e-4, 1.0])
def test_ridge_regression_is_scikit_learns(l2: float) -> None:
    train, test = planes(120, 0), planes(30, 1)
    theirs = Ridge(alpha=l2 * 120).fit(train.x.double(), train.y.double())
    np.testing.assert_allclose(ridge(train.x, train.y, l2)(test.x).numpy(), theirs.predict(test.x.double()), atol=1e-4)
    doubled = torch.cat([train.x, train.x], 1)  # no unique solution without a penalty
    torch.testing.assert_close(ridge(doubled, train.y, 0.0)(doubled), ridge(train.x, train.y, 0.0)(train.x))


def test_standardisation_is_scikit_learns_and_spares_constants() -> None:
    x = torch.cat([clouds(50, 0).x, torch.full((50, 1), 7.3)], 1)
    np.testing.assert_allclose(standardize(x)(x).numpy(), StandardScaler().fit_transform(x), atol=1e-5)


# Both, measured


def test_separable_classes_and_exact_lines_are_predicted() -> None:
    train, test = clouds(200, 0, 0.05), clouds(80, 1, 0.05)
    for predict in (by_neighbours(train, CLASSES, 20, 0.1), by_linear_model(train, CLASSES, 1e-3, 200)):
        found = measured(CLASSES, predict(test.x), test.y)
        assert (found["accuracy"], found["f1"]) == (1.0, 1.0)
    line = Samples(train.x, train.x[:, :1] * 2 + 1)
    found = measured(Task(Regress(), 1), by_linear_model(line, Task(Regress(), 1), 0.0, 1)(train.x), line.y)
    assert found["r2"] == pytest.approx(1.0)
    mean = measured(VALUES, torch.full((2, 2), 1.0), torch.tensor([[0.0, 2.0], [2.0, 0.0]]))
    assert mean["r2"] == pytest.approx(0.0), "the mean predicts no part of the variance"


def test_what_targets_ask_for() -> None:
    kind = Vector((3,))
    assert task_of(Info(kind, "classes", 5), "job=knn").classifies
    assert not task_of(Info(kind, "values", 2), "job=knn").classifies
    with pytest.raises(ValueError, match="the targets of these data are labels"):
        task_of(Info(kind, "labels", 2), "job=knn")


def test_samples_are_drawn_by_the_seed() -> None:
    some: Any = [drawn(100, 10, seed).tolist() for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    assert some[0] == sorted(set(some[0]))
    assert drawn(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
