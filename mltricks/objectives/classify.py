"""Classification by cross-entropy, with class indices or class probabilities as targets.

Shapes: B batch, N samples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.data.info import Info
from mltricks.data.splits import Split
from mltricks.figures.base import shorten
from mltricks.figures.parts import Cell, Chart, Compact, Gallery, Section, Table, Text
from mltricks.intervals import wilson
from mltricks.objectives.analysis import calibration, log_shares, precision_recall
from mltricks.objectives.base import Objective, Outcome, Sheet

NUM_WORST = 16
MAX_CLASS_ROWS = 50
MAX_CURVES = 20
"""Largest number of classes for curves of precision and recall, which need every probability of every sample."""
MAX_ITERATIONS, PENALTY = 100, 10.0
"""Iteration limit, and weight of the squared norm, of the logistic regression, the baseline for a model's score."""


@dataclass(frozen=True)
class Classify(Objective):
    """Mean cross-entropy between the model's logits and ``y``.

    Shapes: logits (B, K) float; ``y`` (B,) int64 or (B, K) float.
    """

    targets: ClassVar[tuple[str, ...]] = ("classes",)
    outputs: ClassVar[str] = "{:,} classes"
    score: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    further: ClassVar[str] = "multiclass"

    def mean(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y) if y.ndim == 1 else soft_cross_entropy(logits, y)

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, reduction="none")

    def metrics(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Accuracy: the share of samples whose largest logit is at the (most probable) target class."""
        target = y.argmax(1) if y.ndim == 2 else y
        return {"accuracy": (logits.argmax(1) == target).float().mean()}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The constant logits (K,) that fit all targets best."""
        return log_shares(torch.bincount(y, minlength=num_outputs).float() if y.ndim == 1 else y.sum(0))

    def counts(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"classes": class_counts(logits.argmax(1), y, logits.shape[1])} if y.ndim == 1 else {}

    def from_counts(self, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"f1": macro_f1(counts["classes"])} if counts else {}

    def ignorant(self, logits: Tensor, y: Tensor) -> tuple[Tensor, str]:
        return torch.zeros_like(logits), f"ln {logits.shape[1]}"

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
    losses_B = F.cross_entropy(logits, y, reduction="none")
    # use nll_loss's own summation order for the mean, so that class indices give the same bits as one-hot rows
    return F.nll_loss(-losses_B.unsqueeze(1), y.new_zeros(len(y), dtype=torch.int64))


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


def confusion(outcome: Outcome, num_classes: int) -> Tensor:
    """The confusion matrix (K, K) int64: true classes as rows, predicted classes as columns."""
    cells = outcome["y"] * num_classes + outcome["predicted"]
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


def class_scores(matrix: Tensor) -> list[tuple[int, int, float, float, float]]:
    """For every class its index, sample count, precision, recall and F1, from a confusion matrix."""
    hits, predicted, there = (m.double() for m in (matrix.diagonal(), matrix.sum(0), matrix.sum(1)))
    ratios = [hits / predicted.clamp_min(1), hits / there.clamp_min(1), 2 * hits / (predicted + there).clamp_min(1)]
    return [(k, int(there[k]), *(float(r[k]) for r in ratios)) for k in range(len(matrix))]  # type: ignore[misc]


def worst(outcome: Outcome, most: int = NUM_WORST) -> Tensor:
    """The positions of the wrong predictions, the most confident ones first."""
    wrong = (outcome["predicted"] != outcome["y"]).nonzero()[:, 0]
    return wrong[outcome["confidence"][wrong].argsort(descending=True, stable=True)][:most]


def confusion_section(outcome: Outcome, sheet: Sheet) -> Section:
    """The confusion matrix."""
    from mltricks.figures.predictions import confusion_matrix

    names = sheet.info.class_names
    figure = confusion_matrix(confusion(outcome, len(names)).tolist(), names)
    return Section("Confusion matrix, test split", [Chart("confusion_matrix", figure, still=True)], half=True)


def scores_section(outcome: Outcome, sheet: Sheet) -> Section:
    """A table of class scores, lowest F1 first; precision and recall with their 95 % intervals."""
    names = sheet.info.class_names
    matrix = confusion(outcome, len(names))
    hits, predicted = matrix.diagonal().tolist(), matrix.sum(0).tolist()
    scores = sorted(class_scores(matrix), key=lambda row: row[4])[:MAX_CLASS_ROWS]
    rows = [
        [Cell(names[k]), Cell(f"{count:,}"), Cell(f"{f1:.4f}"), shared(hits[k], predicted[k]), shared(hits[k], count)]
        for k, count, _, _, f1 in scores
    ]
    note = Text("By F1. Ranges are 95 % intervals (Wilson) for this number of samples.")
    table = Compact(["class", "samples", "F1", "precision", "recall"], rows)
    return Section("Classes, the weakest first", [table, note], half=True)


def shared(hits: int, total: int) -> Cell:
    """A share and below it its interval.

    >>> shared(8, 10)
    Cell(text='0.80', below='0.49 to 0.94', tone='')
    """
    low, high = wilson(hits, total)
    return Cell(f"{hits / total:.2f}", f"{low:.2f} to {high:.2f}") if total else Cell("-", "no sample")


def calibration_section(outcome: Outcome, sheet: Sheet) -> Section:
    """Whether a confidence of 80 % is right in 80 % of the cases."""
    from mltricks.figures.predictions import reliability

    bins, error = calibration(outcome["confidence"], outcome["predicted"] == outcome["y"])
    said = "Below the diagonal the model is more confident than it is right, above it less. Whiskers: 95 % intervals."
    return Section("Calibration", [Chart("calibration", reliability(bins, error)), Text(said)], half=True)


def ranking_section(outcome: Outcome, sheet: Sheet) -> Section:
    """Precision against recall of every class."""
    from mltricks.figures.predictions import precision_recall as draw

    names, y = sheet.info.class_names, outcome["y"]
    curves = {
        names[k]: precision_recall(outcome["probabilities"][:, k], y == k) for k in range(len(names)) if (y == k).any()
    }
    said = "Each class against the rest. The number in the legend is the average precision."
    return Section("Precision and recall", [Chart("precision_recall", draw(curves)), Text(said)], half=True)


def errors_section(outcome: Outcome, sheet: Sheet) -> Section:
    """The wrong predictions in which the model was most confident."""
    order, names, title = worst(outcome), sheet.info.class_names, "Most confident errors"
    if len(order) == 0:
        return Section(title, [Text("There is no error on the test split.")])
    true, predicted = ([names[int(i)] for i in outcome[key][order]] for key in ("y", "predicted"))
    confidence = [f"{float(c):.1%}" for c in outcome["confidence"][order]]
    images = sheet.pictures(order)
    if images is None:
        rows = list(zip(order.tolist(), true, predicted, confidence, strict=True))
        return Section(title, [Table(["test sample", "true", "predicted", "confidence"], rows)])
    short = [f"{shorten(t, 9)} → {shorten(p, 9)}" for t, p in zip(true, predicted, strict=True)]
    more = [f"{c}, no. {i}" for c, i in zip(confidence, order.tolist(), strict=True)]
    said = Text("True → predicted class, confidence, number of the test sample.")
    return Section(title, [Gallery(images, list(zip(short, more, strict=True)), "worst_examples"), said])
