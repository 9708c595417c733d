"""Measuring a model on a split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mltricks.data.source import in_order
from mltricks.data.splits import Split
from mltricks.state import State


@torch.no_grad()
def evaluate(
    predict: Callable[[State, Tensor], Tensor], objective: Any, state: State, split: Split, batch_size: int
) -> dict[str, float]:
    """The objective's metrics over a whole split, every sample with the same weight.

    Args:
        predict: the state and raw inputs to outputs.
        objective: what judges outputs.
        state: of the run.
        split: samples to measure on.
        batch_size: samples a forward pass.

    Raises:
        ValueError: a label is outside the model's outputs.
    """
    totals: dict[str, Tensor] = {}
    for batch in in_order(split, batch_size):
        _, aux = objective.judge(predict(state, batch["x"]), batch["y"])
        for name, value in aux["metrics"].items():
            totals[name] = totals.get(name, 0.0) + value.double() * len(batch["y"])
    return {name: float(total) / len(split) for name, total in totals.items()}
