"""The report about a classifier's predictions on the test split: confusion, scores, calibration, ranking, errors.

Shapes: N samples, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mltricks.figures.base import shorten
from mltricks.figures.parts import Cell, Chart, Compact, Gallery, Section, Table, Text
from mltricks.intervals import wilson
from mltricks.objectives.analysis import calibration, precision_recall
from mltricks.objectives.base import Outcome, Sheet

NUM_WORST = 16
MAX_CLASS_ROWS = 50


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
