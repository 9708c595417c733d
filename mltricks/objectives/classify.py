"""Classification by cross-entropy, with class indices or class probabilities as targets.

Shapes: B batch, N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.data.info import Info
from mltricks.objectives.base import Objective, Outcome, Sheet

NUM_WORST = 16
MAX_CLASS_ROWS = 50
MAX_ITERATIONS = 50
"""Iteration limit of the logistic regression, the baseline for a model's score."""


@dataclass(frozen=True)
class Classify(Objective):
    """Mean cross-entropy between the model's logits and ``y``.

    Shapes: logits (B, K) float; ``y`` (B,) int64 or (B, K) float.
    """

    targets: ClassVar[tuple[str, ...]] = ("classes",)
    score: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    def mean(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y) if y.ndim == 1 else soft_cross_entropy(logits, y)

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, reduction="none")

    def metrics(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Accuracy: the share of samples whose largest logit is at the (most probable) target class."""
        target = y.argmax(1) if y.ndim == 2 else y
        return {"accuracy": (logits.argmax(1) == target).float().mean()}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The constant logits (K,) that fit all targets best: log class frequencies with add-one smoothing."""
        counts = torch.bincount(y, minlength=num_outputs).float() if y.ndim == 1 else y.sum(0)
        return ((counts + 1) / (counts.sum() + num_outputs)).log()

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
        return {"y": y, "predicted": predicted, "confidence": confidence, "p_true": p_true}

    def sections(self, outcome: Outcome, sheet: Sheet) -> Sequence[Callable[[], str]]:
        return [partial(classes_section, outcome, sheet), partial(worst_section, outcome, sheet)]


def soft_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy against class probabilities; one-hot rows give the same number as class indices.

    Shapes: logits (B, K) float, ``y`` (B, K) float -> 0-d.
    """
    losses_B = F.cross_entropy(logits, y, reduction="none")
    # use nll_loss's own summation order for the mean, so that class indices give the same bits as one-hot rows
    return F.nll_loss(-losses_B.unsqueeze(1), y.new_zeros(len(y), dtype=torch.int64))


def logistic(x: Tensor, y: Tensor, num_outputs: int) -> Callable[[Tensor], Tensor]:
    """Fit scikit-learn's logistic regression; return it as a function from features (N, D) to logits (N, K)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an unconverged fit suffices as a baseline
        fitted = LogisticRegression(C=0.1, max_iter=MAX_ITERATIONS).fit(x.cpu().numpy(), y.numpy())

    def logits(x: Tensor) -> Tensor:
        known = torch.as_tensor(fitted.predict_log_proba(x.cpu().numpy()), dtype=torch.float32).clamp(min=-20.0)
        full = known.new_full((len(known), num_outputs), -20.0)
        return full.index_copy(1, torch.as_tensor(fitted.classes_), known)

    return logits


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


def worst(outcome: Outcome) -> Tensor:
    """The positions of the samples whose true class has the lowest probability."""
    return outcome["p_true"].argsort(stable=True)[:NUM_WORST]


def classes_section(outcome: Outcome, sheet: Sheet) -> str:
    """The confusion matrix, and a table of class scores, lowest first."""
    from mltricks.figures import plain as page
    from mltricks.figures import plots

    names = sheet.info.class_names
    matrix = confusion(outcome, len(names))
    scores = sorted(class_scores(matrix), key=lambda row: row[4])[:MAX_CLASS_ROWS]
    rows = [[names[k], count, precision, recall, f1] for k, count, precision, recall, f1 in scores]
    table = page.table(["class", "samples", "precision", "recall", "F1"], rows)
    scored = page.section("Classes, the weakest first", table)
    return page.pair(page.section("Confusion matrix", sheet.draw(plots.confusion_matrix, matrix, names)), scored)


def worst_section(outcome: Outcome, sheet: Sheet) -> str:
    """The test samples whose true class has the lowest probability."""
    from mltricks.figures import plain as page
    from mltricks.figures import plots

    order, names = worst(outcome), sheet.info.class_names
    true, predicted = ([names[int(i)] for i in outcome[key][order]] for key in ("y", "predicted"))
    confidence = [f"{float(c):.0%}" for c in outcome["confidence"][order]]
    rows = list(zip(order.tolist(), true, predicted, confidence, strict=True))
    images = sheet.pictures(order)
    if images is None:
        return page.section("Worst examples", page.table(["test sample", "true", "predicted", "confidence"], rows))
    captions = [f"{plots.shorten(t, 9)} → {plots.shorten(p, 9)}\n{c}" for _, t, p, c in rows]
    sheet.draw(plots.worst_examples, images, captions)
    gallery = page.gallery(images, [(f"{t} → {p}", f"{c}, no. {i}") for i, t, p, c in rows])
    return page.section("Worst examples: true → predicted, confidence, test sample", gallery)
