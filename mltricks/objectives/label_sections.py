"""The report about predicted sets of labels on the test split: scores, ranking, errors.

Shapes: N samples, K labels.
"""

from __future__ import annotations

from torch import Tensor

from mltricks.data.info import Info
from mltricks.figures.parts import Cell, Chart, Compact, Gallery, Section, Table, Text
from mltricks.objectives.analysis import precision_recall
from mltricks.objectives.base import Outcome, Sheet
from mltricks.objectives.class_sections import MAX_CLASS_ROWS, NUM_WORST, shared

MAX_CURVES = 20
"""Most labels with a curve of precision and recall: more cannot be told apart."""


def names_of(labels: Tensor, info: Info) -> str:
    """The names of a set (K,) bool, as ``cat + dog``; ``none`` of an empty one."""
    return " + ".join(name for name, there in zip(info.class_names, labels.tolist(), strict=True) if there) or "none"


def most_wrong(outcome: Outcome, threshold: float, most: int = NUM_WORST) -> Tensor:
    """The positions of the samples with mistakes: most wrong labels first, then by their distance from the truth."""
    sets, probabilities = outcome["sets"], outcome["probabilities"]
    wrong = ((probabilities >= threshold) != sets).sum(1)
    far = (probabilities - sets.float()).abs().mean(1)
    order = (wrong + far).argsort(descending=True, stable=True)
    return order[wrong[order] > 0][:most]


def scores_section(outcome: Outcome, sheet: Sheet, threshold: float) -> Section:
    """A table of scores of the labels, lowest F1 first; precision and recall with their 95 % intervals."""
    sets, predicted = outcome["sets"], outcome["probabilities"] >= threshold
    hits, named, there = ((part.sum(0).tolist()) for part in (sets & predicted, predicted, sets))
    f1 = [2 * h / max(n + t, 1) for h, n, t in zip(hits, named, there, strict=True)]
    order = sorted(range(len(f1)), key=lambda k: f1[k])[:MAX_CLASS_ROWS]
    names = sheet.info.class_names
    rows = [
        [
            Cell(names[k]),
            Cell(f"{there[k]:,}"),
            Cell(f"{f1[k]:.4f}"),
            shared(hits[k], named[k]),
            shared(hits[k], there[k]),
        ]
        for k in order
    ]
    note = Text(f"By F1, at the threshold {threshold:g}. Ranges are 95 % intervals (Wilson).")
    table = Compact(["label", "samples", "F1", "precision", "recall"], rows)
    return Section("Labels, the weakest first", [table, note], half=True)


def ranking_section(outcome: Outcome, sheet: Sheet, threshold: float) -> Section:
    """Precision against recall of the most frequent labels."""
    from mltricks.figures.predictions import precision_recall as draw

    names, sets = sheet.info.class_names, outcome["sets"]
    found = [k for k in sets.sum(0).argsort(descending=True, stable=True).tolist() if bool(sets[:, k].any())][
        :MAX_CURVES
    ]
    curves = {names[k]: precision_recall(outcome["probabilities"][:, k], sets[:, k]) for k in sorted(found)}
    said = "Each label by itself, over all thresholds. The number in the legend is the average precision."
    return Section("Precision and recall", [Chart("precision_recall", draw(curves)), Text(said)], half=True)


def errors_section(outcome: Outcome, sheet: Sheet, threshold: float) -> Section:
    """The samples with the most wrong labels."""
    order, title = most_wrong(outcome, threshold), "Samples with the most wrong labels"
    if len(order) == 0:
        return Section(title, [Text("There is no error on the test split.")])
    parts = (outcome["sets"], outcome["probabilities"] >= threshold)
    true, predicted = ([names_of(row, sheet.info) for row in part[order]] for part in parts)
    images = sheet.pictures(order)
    if images is None:
        rows = list(zip(order.tolist(), true, predicted, strict=True))
        return Section(title, [Table(["test sample", "true", "predicted"], rows)])
    captions = [(f"{t} → {p}", f"no. {i}") for i, t, p in zip(order.tolist(), true, predicted, strict=True)]
    said = Text("True → predicted labels, number of the test sample.")
    return Section(title, [Gallery(images, captions, "worst_examples"), said])
