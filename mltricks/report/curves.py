"""The learning curves of a job, thinned for display."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

POINTS = 120
"""The largest number of points of a curve."""

Curve = list[list[float]]
"""Pairs of epoch and value."""


def read_curves(path: Path, score: str) -> dict[str, Curve]:
    """Curves of ``score`` and ``loss`` on validation and of ``loss`` in training, over epochs.

    The training loss is the mean over each epoch or, with fewer than two epochs, since the previous record, at
    that record's fraction of the epoch. Truncated lines are skipped.

    Args:
        path: a ``metrics.jsonl``; a missing file gives no curves.
        score: name of the metric that steers the run.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {"score": [], "val": [], "train": []}
    val = records([line for line in lines if '"split": "val"' in line])
    training = [line for line in lines if '"split": "train"' in line]
    epochs = [line for line in training if '"epoch_loss": ' in line]
    train = records(thinned(epochs if len(epochs) > 1 else training))
    steps = max((r["step"] / r["epoch"] for r in [*train, *val] if r.get("epoch")), default=1.0)
    return {
        "score": points(thinned(val), score, steps),
        "val": points(thinned(val), "loss", steps),
        "train": points(train, "epoch_loss" if len(epochs) > 1 else "loss", steps),
    }


def records(lines: list[str]) -> list[dict[str, Any]]:
    """The records in lines of JSON."""
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            found.append(record)
    return found


def points(found: list[dict[str, Any]], name: str, steps_per_epoch: float) -> Curve:
    """Epochs and values of a metric, if they are numbers."""
    return [
        [rounded(r["step"] / max(steps_per_epoch, 1e-9)), rounded(value)]
        for r in found
        if isinstance(value := r.get(name), int | float) and math.isfinite(value)
    ]


def thinned(items: list[Any]) -> list[Any]:
    """At most ``POINTS`` of the items, evenly spread, the first and the last among them."""
    if len(items) <= POINTS:
        return items
    return [items[round(i * (len(items) - 1) / (POINTS - 1))] for i in range(POINTS)]


def rounded(value: float) -> float:
    """Five significant digits."""
    return float(f"{value:.5g}")
