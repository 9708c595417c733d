"""The history of a run: its records as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mltricks.config.values import suggest
from mltricks.observers.base import AROUND, Record, of_epoch

History = dict[str, list[Any]]


def history_of(records: Sequence[Record]) -> History:
    """Columns of one length from the lines of ``metrics.jsonl``, one row for each validation, in order.

    >>> history_of([{"step": 2, "epoch": 1, "split": "train", "loss": 0.5, "lr": 0.1, "seconds": 1.0},
    ...             {"step": 2, "epoch": 1, "split": "val", "loss": 0.7, "seconds": 2.0}])
    {'epoch': [1], 'step': [2], 'train/loss': [0.5], 'val/loss': [0.7], 'lr': [0.1], 'seconds': [2.0]}
    """
    trained = {record["step"]: of_epoch(record) for record in records if record["split"] == "train"}
    rows = []
    for record in records:
        if record["split"] == "val":
            before = trained.get(record["step"], {})
            measured = {f"train/{k}": v for k, v in before.items() if k not in AROUND}
            measured |= {f"val/{k}": v for k, v in record.items() if k not in AROUND}
            around = {"lr": before.get("lr"), "seconds": record.get("seconds")}
            rows.append({"epoch": record["epoch"], "step": record["step"], **measured, **around})
    names = dict.fromkeys(name for row in rows for name in row)
    ordered = [*(n for n in names if n not in ("lr", "seconds")), *(n for n in ("lr", "seconds") if n in names)]
    return {name: [row.get(name) for row in rows] for name in ordered}


def curves_of(history: History, metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By metric and split: epochs and values, as ``mltricks.figures.training.learning_curves`` takes them.

    Raises:
        ValueError: a metric was not measured, or nothing was validated.
    """
    if not history:
        raise ValueError("the run ended before its first validation, so there are no curves.")
    found: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        for split in ("train", "val"):
            pairs = zip(history["epoch"], history.get(f"{split}/{metric}", []), strict=False)
            known = [(epoch, value) for epoch, value in pairs if value is not None]
            if known:
                found.setdefault(metric, {})[split] = tuple(map(list, zip(*known, strict=True)))
        if metric not in found:
            names = {name.partition("/")[2] for name in history if "/" in name}
            raise ValueError(f"{metric} was not measured. {suggest(metric, names)}")
    return found
