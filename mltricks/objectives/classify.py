"""Classification by cross-entropy, with class indices or class probabilities as targets.

Shapes: B batch, N samples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, Split
from mltricks.figures.parts import Section
from mltricks.objectives.analysis import log_shares
from mltricks.objectives.base import Objective, Outcome, Sheet
from mltricks.objectives.class_sections import (
    calibration_section,
    confusion_section,
    errors_section,
    ranking_section,
    scores_section,
    worst,
)
from mltricks.objectives.class_weights import ClassWeights, check_weights, weights_of

MAX_CURVES = 20
"""Largest number of classes for curves of precision and recall, which need every probability of every sample."""
MAX_ITERATIONS, PENALTY = 100, 10.0
"""Iteration limit, and weight of the squared norm, of the logistic regression, the baseline for a model's score."""


@dataclass(frozen=True)
class Classify(Objective):
    """Mean cross-entropy between the model's logits and ``y``.

    With class weights, the loss of a sample is multiplied by the weight of its class, and the mean is over the samples;
    torch's divides by the sum of their weights instead, which depends on the batch.

    Shapes: logits (B, K) float; ``y`` (B,) int64 or (B, K) float.

    Args:
        class_weights: one per class, each >= 0; ``balanced`` for N / (K N_k), with N_k training samples of class k;
            ``None`` for no weights.

    Attributes:
        weights: the weights (K,) float32; ``None`` without.
    """

    class_weights: ClassWeights = field(default=None, kw_only=True)
    weights: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    targets: ClassVar[tuple[str, ...]] = ("classes",)
    outputs: ClassVar[str] = "{:,} classes"
    score: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    further: ClassVar[str] = "multiclass"
    takes_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_weights(self.class_weights, self.takes_weights)

    def fitted(self, data: DataSplits) -> Classify:
        """The objective with the class weights of these training data."""
        return self.told(weights=weights_of(self.class_weights, data))

    def mean(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.weights is not None:
            return self.per_sample(logits, y).mean()
        return F.cross_entropy(logits, y) if y.ndim == 1 else soft_cross_entropy(logits, y)

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.weights is None or y.ndim == 2:
            return F.cross_entropy(logits, y, self.weights, reduction="none")
        return F.cross_entropy(logits, y, reduction="none") * self.weights[y]

    def metrics(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Accuracy: the share of samples whose largest logit is at the (most probable) target class."""
        target = y.argmax(1) if y.ndim == 2 else y
        return {"accuracy": (logits.argmax(1) == target).float().mean()}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The constant logits (K,) that fit all targets best."""
        counts = torch.bincount(y, minlength=num_outputs).float() if y.ndim == 1 else y.sum(0)
        return log_shares(counts if self.weights is None else counts * self.weights.to(counts.device))

    def counts(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"classes": class_counts(logits.argmax(1), y, logits.shape[1])} if y.ndim == 1 else {}

    def from_counts(self, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"f1": macro_f1(counts["classes"])} if counts else {}

    def ignorant(self, logits: Tensor, y: Tensor) -> tuple[Tensor, str]:
        return torch.zeros_like(logits), f"ln {logits.shape[1]}{'' if self.weights is None else ', weighted by class'}"

    def linear(self, x: Tensor, y: Tensor, num_outputs: int) -> Callable[[Tensor], Tensor] | None:
        return logistic(x, y, num_outputs) if y.ndim == 1 and len(y.unique()) > 1 else None

    def predict(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities."""
        return logits.softmax(-1)

    def rows(self, predictions: Tensor, info: Info) -> Iterator[dict[str, Any]]:
        """The most probable class, its probability, and all probabilities by name."""
        names = info.class_names
        for output in predictions:
            best = int(output.argmax())
            probabilities = {name: float(p) for name, p in zip(names, output, strict=True)}
            yield {"class": names[best], "probability": float(output[best]), "probabilities": probabilities}

    def truth(self, y: Tensor, info: Info) -> Any:
        return (info.classes[int(y)] if info.classes else int(y)) if y.ndim == 0 else y.tolist()

    def digest(self, logits: Tensor, y: Tensor) -> Outcome:
        if y.ndim != 1:
            return {}
        probabilities = self.predict(logits)
        confidence, predicted = probabilities.max(1)
        p_true = probabilities.gather(1, y[:, None])[:, 0]
        found = {"y": y, "predicted": predicted, "confidence": confidence, "p_true": p_true}
        return found | ({"probabilities": probabilities} if probabilities.shape[1] <= MAX_CURVES else {})

    def target_words(self, info: Info) -> str:
        return f"one of {info.num_outputs} classes"

    def caption(self, y: Tensor, info: Info) -> str:
        """The class; of mixed targets the two largest shares."""
        if y.ndim == 0:
            return info.class_names[int(y)]
        if float(y.max()) > 0.995:
            return info.class_names[int(y.argmax())]
        shares, classes = y.topk(min(2, len(y)))
        pairs = zip(shares.tolist(), classes.tolist(), strict=True)
        return ", ".join(f"{info.class_names[k]} {share:.0%}" for share, k in pairs if share > 0.005)

    def shares(self, split: Split) -> Tensor | None:
        return None if split.labels is None else torch.bincount(split.labels).double() / len(split.labels)

    def mistakes(self, outcome: Outcome, info: Info, most: int) -> tuple[Tensor, dict[str, list[Any]]]:
        """The wrong predictions, the most confident ones first."""
        order, names = worst(outcome, most), info.class_names
        true, predicted = ([names[int(k)] for k in outcome[key][order]] for key in ("y", "predicted"))
        sure = outcome["confidence"][order].tolist()
        return order, {"true": true, "predicted": predicted, "confidence": sure, "test sample": order.tolist()}

    def sections(self, outcome: Outcome, sheet: Sheet) -> Sequence[Callable[[], Section]]:
        parts = [confusion_section, scores_section, calibration_section, ranking_section, errors_section]
        parts = parts if "probabilities" in outcome else [p for p in parts if p is not ranking_section]
        return [partial(part, outcome, sheet) for part in parts]


def soft_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy against class probabilities; one-hot rows give the same number as class indices.

    Shapes: logits (B, K) float, ``y`` (B, K) float -> 0-d.
    """
    return mean_as_nll(F.cross_entropy(logits, y, reduction="none"))


def mean_as_nll(losses_B: Tensor) -> Tensor:
    """The mean in the order of summation of ``nll_loss``: class indices and one-hot rows give the same bits."""
    return F.nll_loss(-losses_B.unsqueeze(1), losses_B.new_zeros(len(losses_B), dtype=torch.int64))


def logistic(x: Tensor, y: Tensor, num_outputs: int) -> Callable[[Tensor], Tensor]:
    """Fit a logistic regression; return it as a function from features (N, D) to logits (N, K).

    Source: accelerated gradient, Nesterov 1983, with restarts, O'Donoghue and Candes 2015, arXiv:1204.3982. The
    objective is scikit-learn's with ``C=0.1``.
    Deviation: written out here: importing a solver of scikit-learn, scipy or torch takes longer than the fit.
    """
    classes, target = y.unique(return_inverse=True)
    x = F.pad(x.cpu().float(), (0, 1), value=1.0)  # the last feature is the bias
    truth = F.one_hot(target, len(classes)).float()
    decay = torch.full((x.shape[1], 1), PENALTY)
    decay[-1] = 0.0
    rate = 1 / (0.5 * largest_eigenvalue(x) + PENALTY)
    weight = ahead = torch.zeros(x.shape[1], len(classes))
    momentum = 1.0
    for _ in range(MAX_ITERATIONS):
        slope = x.T @ ((x @ ahead).softmax(1) - truth) + decay * ahead
        new, following = ahead - rate * slope, (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        if float((slope * (new - weight)).sum()) > 0:  # the momentum leads uphill
            following = 1.0
        ahead = new + (momentum - 1) / following * (new - weight)
        weight, momentum = new, following

    def logits(x: Tensor) -> Tensor:
        known = (F.pad(x.cpu().float(), (0, 1), value=1.0) @ weight).log_softmax(1).clamp(min=-20.0)
        return known.new_full((len(known), num_outputs), -20.0).index_copy(1, classes, known)

    return logits


def largest_eigenvalue(x: Tensor, iterations: int = 20) -> float:
    """Estimate the largest eigenvalue of ``x.T @ x`` from above: a tenth more than the power method finds."""
    vector = x.sum(0)
    for _ in range(iterations):
        vector = x.T @ (x @ (vector / vector.norm().clamp_min(1e-12)))
    return 1.1 * float(vector.norm())


def class_counts(predicted: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """Per class the number of correct predictions, of predictions, and of samples: (3, K) int64."""
    hits = torch.where(predicted == y, y, num_classes)
    one = torch.ones_like(y)
    rows = [
        torch.zeros(num_classes + 1, dtype=torch.int64, device=y.device).scatter_add(0, c, one)
        for c in (hits, predicted, y)
    ]
    return torch.stack(rows)[:, :num_classes]


def macro_f1(counts: Tensor) -> Tensor:
    """Macro F1 from ``class_counts``: the mean over classes of 2 hits / (predicted + there), without absent classes.

    Args:
        counts: (..., 3, K).

    >>> macro_f1(torch.tensor([[1, 1], [1, 2], [2, 1]]))
    tensor(0.6667, dtype=torch.float64)
    """
    hits, predicted, there = counts.cpu().double().unbind(-2)
    occurs = predicted + there > 0
    return (2 * hits / (predicted + there).clamp_min(1)).sum(-1) / occurs.sum(-1)
