"""Nearest neighbours and linear models on features, and their metrics on a split.

What they measure is chosen by the targets alone, whatever objective trained the model: classes are classified, values
are regressed. Legend: N samples, D features, K classes or values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mltricks.build import Run
from mltricks.data.info import Info
from mltricks.data.splits import Split
from mltricks.evaluate import Tally, measure_batch
from mltricks.features.encoder import Encode, Samples, encoded, of_state, of_weights
from mltricks.functional.linear_fit import Linear, logistic, ridge, standardize
from mltricks.functional.neighbours import class_votes, nearest, vote_weights
from mltricks.metrics import Knn, LinearProbe
from mltricks.objectives.of_targets import Task, task_of
from mltricks.state import PROBE, State, fold
from mltricks.weights import Weights

BANK = 10_000
"""The most training samples that a metric of validation learns from, drawn by the run's seed, the same each time."""
MAX_ITERATIONS = 100
"""Of the solver of a linear probe at a validation."""
Predict = Callable[[Tensor], Tensor]
"""Maps features (N, D) to outputs (N, K): logits of classes, or values."""


def by_neighbours(bank: Samples, task: Task, k: int, temperature: float) -> Predict:
    """Predict by the weighted vote, or the weighted mean, of the k nearest samples of a bank; k at most N."""

    def predict(x: Tensor) -> Tensor:
        similarity, at = nearest(x, bank.x, k)
        weights = vote_weights(similarity, temperature)
        if task.classifies:
            shares = class_votes(weights, bank.y[at], task.num_outputs)
            return shares.clamp_min(torch.finfo(shares.dtype).tiny).log()
        return (weights.unsqueeze(2) * bank.y.reshape(len(bank.y), -1)[at]).sum(1)

    return predict


def fit_linear(bank: Samples, task: Task, l2: float, max_iterations: int, start: Linear | None = None) -> Linear:
    """Logistic or ridge regression; the arguments are those of ``mltricks.functional.linear_fit``."""
    if task.classifies:
        return logistic(bank.x, bank.y, task.num_outputs, l2, max_iterations, start)
    return ridge(bank.x, bank.y.reshape(len(bank.y), -1), l2)


def by_linear_model(bank: Samples, task: Task, l2: float, max_iterations: int) -> Predict:
    """Predict by a linear model of standardised features."""
    scale = standardize(bank.x)
    fit = fit_linear(Samples(scale(bank.x), bank.y), task, l2, max_iterations)
    return lambda x: fit(scale(x))


def measured(task: Task, outputs: Tensor, y: Tensor) -> dict[str, float]:
    """The metrics of outputs; of values also R^2, the share of their variance that is predicted."""
    tally = Tally(task.objective)
    tally.add(measure_batch(task.objective, outputs, y), len(y))
    found = {name: float(value) for name, value in tally.means().items()}
    if task.classifies:
        return found
    y = y.reshape(outputs.shape).double()
    rest = (outputs.double() - y).square().sum(0) / (y - y.mean(0)).square().sum(0)
    return found | {"r2": 1 - float(rest.mean())}


def headline(task: Task) -> str:
    """The metric that ``metric=knn`` and ``metric=linear_probe`` record: higher is better."""
    return "accuracy" if task.classifies else "r2"


@dataclass(frozen=True)
class OnFeatures:
    """Metrics of one set of weights, fitted to the features of the training split.

    Attributes:
        encode: the encoder.
        predictors: by the name of the metric.
        task: what is predicted.
        batch_size: samples of a forward pass.
    """

    encode: Encode
    predictors: dict[str, Predict]
    task: Task
    batch_size: int

    def on(self, split: Split) -> dict[str, float]:
        """The metrics on a split."""
        samples = encoded(self.encode, split, self.batch_size)
        return {
            name: measured(self.task, predict(samples.x), samples.y)[headline(self.task)]
            for name, predict in self.predictors.items()
        }


def fitted(
    asked: Mapping[str, Any], encode: Encode, train: Split, info: Info, batch_size: int, seed: int
) -> OnFeatures:
    """Fit the metrics of features to at most ``BANK`` training samples.

    Args:
        asked: their settings by name, as ``Metrics.of_features``.
        encode: the encoder.
        train: the training split.
        info: describes the data.
        batch_size: samples of a forward pass.
        seed: of the run.
    """
    task = task_of(info, "metric=" + "+".join(asked))
    bank = encoded(encode, train, batch_size, drawn(len(train), BANK, seed))
    predictors = {name: predictor(settings, bank, task) for name, settings in asked.items()}
    return OnFeatures(encode, predictors, task, batch_size)


def predictor(settings: Any, bank: Samples, task: Task) -> Predict:
    """The predictor that the settings of a metric describe."""
    if isinstance(settings, Knn):
        return by_neighbours(bank, task, min(settings.k, len(bank.x)), settings.temperature)
    assert isinstance(settings, LinearProbe), "there are two"
    return by_linear_model(bank, task, settings.l2, MAX_ITERATIONS)


def drawn(size: int, most: int, seed: int) -> Tensor:
    """At most ``most`` positions of ``size``, drawn by a seed, ascending."""
    if size <= most:
        return torch.arange(size)
    return torch.randperm(size, generator=torch.Generator().manual_seed(fold(seed, PROBE)))[:most].sort().values


def scores_of_state(run: Run, state: State, split: Split) -> dict[str, float]:
    """The metrics of features that a run asks for, of the weights that a state predicts with; often none."""
    return fitted_to(run, of_state(run, state)).on(split) if run.metrics.of_features else {}


def scores_of_weights(run: Run, weights: Weights, split: Split) -> dict[str, float]:
    """The same, of saved weights."""
    if not run.metrics.of_features:
        return {}
    return fitted_to(run, of_weights(run.model, weights, run.data.info, run.device)).on(split)


def fitted_to(run: Run, encode: Encode) -> OnFeatures:
    """The metrics of features that a run asks for."""
    data, cfg = run.data, run.cfg
    return fitted(run.metrics.of_features, encode, data.train, data.info, cfg["eval_batch_size"], cfg["seed"])


def check_features(run: Run) -> None:
    """Refuse metrics of features where the model has none, before the first update.

    Raises:
        ValueError: the run predicts with several sets of weights, or its model has no feature vectors.
    """
    if run.metrics.of_features:
        of_state(run, run.state)(next(run.data.val.batches([torch.arange(1)]))["x"])
