"""Trivial predictors: their metrics are a floor that a trained model should exceed.

``constant`` always predicts the outputs that fit the training targets best, such as the class frequencies or the mean.
``linear`` is a logistic or ridge regression on normalised inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mltricks.data.splits import DataSplits, MemorySplit, Split
from mltricks.evaluate import Tally, evaluate, measure_batch
from mltricks.objectives.base import Objective

MAX_TARGETS, MAX_NUMBERS = 100_000, 10_000_000
"""If a split does not list its classes: the most training samples that are read for their targets, and the most numbers
in all these targets (a mask has one per pixel)."""
CHUNK = 8192
MAX_SAMPLES, MAX_FEATURES = 2_000, 1_024
"""Limits for the linear model, which keep its fit to about a second; larger data are subsampled evenly."""
BETTER = 0.05
"""Fraction of the trivial loss by which a loss must be lower to count as better."""
DEVIATIONS = 2.0
"""Standard errors by which an accuracy must exceed the trivial one to count as better."""


def targets(split: Split, batch_size: int, most: int | None = None) -> Iterator[Tensor]:
    """The targets of a split in order, or of ``most`` samples; if the split lists its classes, no sample is read."""
    if split.labels is not None:
        return iter(split.labels.split(CHUNK))
    some = spread(len(split), len(split) if most is None else most).split(batch_size)
    return (batch["y"] for batch in split.batches(some))


def most_targets(split: Split) -> int | None:
    """How many targets are enough; ``None``, without reading a sample, if the split lists its classes."""
    if split.labels is not None:
        return None
    return max(1, min(MAX_TARGETS, MAX_NUMBERS // next(targets(split, 1, 1)).numel()))


def spread(size: int, most: int) -> Tensor:
    """At most ``most`` evenly spaced positions: samples may be sorted by class."""
    return torch.arange(0, size, max(1, -(-size // most)))


@torch.no_grad()
def constant(data: DataSplits, objective: Any, batch_size: int, *names: str) -> dict[str, dict[str, float]]:
    """The metrics of the best constant outputs on the named splits; empty if the objective defines none.

    Args:
        data: of the run.
        objective: computes the metrics; its ``constant(y, num_outputs)`` returns the outputs for one sample.
        batch_size: samples per read, if a split does not list its classes.
        names: ``val``, ``test``.
    """
    if type(objective).constant is Objective.constant:
        return {}
    seen = torch.cat(list(targets(data.train, batch_size, most_targets(data.train))))
    output = objective.constant(seen, data.info.num_outputs)
    found = {}
    for name in names:
        tally = Tally(objective)
        for y in targets(getattr(data, name), batch_size):
            tally.add(measure_batch(objective, output.expand(len(y), *output.shape), y), len(y))
        found[name] = {metric: float(value) for metric, value in tally.means().items()}
    return found


def linear(data: DataSplits, objective: Any, batch_size: int, *names: str) -> dict[str, dict[str, float]]:
    """The metrics of a linear model on the named splits; empty for inputs without features and for streamed data.

    Args:
        data, objective, names: as for ``constant``.
        batch_size: samples per forward pass.
    """
    if not isinstance(data.train, MemorySplit):
        return {}
    batch, kind = next(data.train.batches([spread(len(data.train), MAX_SAMPLES)])), data.info.input
    x = kind.features(kind.normalize(batch["x"]))
    predict = None if x is None else objective.linear(thinned(x), batch["y"].cpu(), data.info.num_outputs)
    if predict is None:
        return {}

    def outputs(state: Any, x: Any) -> Tensor:
        found = kind.features(kind.normalize(x))
        assert found is not None, "the kind has features"
        return predict(thinned(found)).to(found.device)

    return {name: evaluate(outputs, objective, {}, getattr(data, name), batch_size) for name in names}


def thinned(x_BD: Tensor) -> Tensor:
    """At most ``MAX_FEATURES`` evenly spaced features."""
    step = -(-x_BD.shape[1] // MAX_FEATURES)
    return x_BD[:, ::step].float()


def beats(metrics: dict[str, float], floor: dict[str, float], score: str, higher_is_better: bool, size: int) -> bool:
    """Whether metrics are significantly better than a trivial predictor's, by the score or by the loss.

    Args:
        metrics: of the model.
        floor: of the trivial predictor, on the same split.
        score: the metric that steers the run.
        higher_is_better: its direction.
        size: number of samples in the split.

    >>> beats({"accuracy": 0.86, "loss": 0.6}, {"accuracy": 0.85, "loss": 0.61}, "accuracy", True, 100)
    False
    """
    if "loss" in floor and metrics.get("loss", math.inf) < (1 - BETTER) * floor["loss"]:
        return True
    if score not in floor or score not in metrics:
        return score not in floor
    gain = (metrics[score] - floor[score]) * (1 if higher_is_better else -1)
    share = floor[score]
    if higher_is_better and 0 <= share <= 1:
        return gain > DEVIATIONS * math.sqrt(max(share * (1 - share), 1 / size) / size)
    return gain > BETTER * abs(share)
