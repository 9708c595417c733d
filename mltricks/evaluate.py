"""Measuring a model on a split, and which measure steers a run.

Shapes: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.data.source import in_order
from mltricks.data.splits import Split
from mltricks.state import State
from mltricks.values import suggest

if TYPE_CHECKING:
    from mltricks.build import Run

Watch = Callable[[Batch, Tensor], None]
"""Called with every batch of a split and the model's outputs on it."""

LOWER_IS_BETTER = ("loss", "mae", "rmse", "mse", "perplexity", "error", "bits_per_character", "ece", "brier")
"""Metrics that are errors; of all others more is better."""


@torch.no_grad()
def evaluate(
    predict: Callable[[State, Tensor], Tensor],
    objective: Any,
    state: State,
    split: Split,
    batch_size: int,
    watch: Sequence[Watch] = (),
) -> dict[str, float]:
    """The objective's metrics over a whole split, every sample with the same weight; macro F1 besides an accuracy.

    Args:
        predict: the state and raw inputs to outputs.
        objective: what judges outputs.
        state: of the run.
        split: samples to measure on.
        batch_size: samples a forward pass.
        watch: who else wants to see the outputs.
    """
    totals: dict[str, Tensor] = {}
    counts: Tensor | None = None
    for batch in in_order(split, batch_size):
        outputs, y = predict(state, batch["x"]), batch["y"]
        metrics = objective.judge(outputs, y)[1]["metrics"]
        for name, value in metrics.items():
            totals[name] = totals.get(name, 0.0) + value.cpu().double() * len(y)
        if has_classes(metrics, outputs, y):
            found = class_counts(outputs.argmax(1), y, outputs.shape[1])
            counts = found if counts is None else counts + found
        for see in watch:
            see(batch, outputs)
    means = {name: float(total) / len(split) for name, total in totals.items()}
    return means if counts is None or "f1" in means else {**means, "f1": float(macro_f1(counts))}


def has_classes(metrics: dict[str, Tensor], outputs: Tensor, y: Tensor) -> bool:
    """Whether each output is a choice of one class: (B, K) outputs with an accuracy against (B,) int64 labels."""
    return "accuracy" in metrics and outputs.ndim == 2 and y.ndim == 1 and not y.is_floating_point()


def class_counts(predicted: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """How often each class is predicted rightly, is predicted, and is there: (3, K) int64."""
    hits = torch.where(predicted == y, y, num_classes)
    one = torch.ones_like(y)
    rows = [
        torch.zeros(num_classes + 1, dtype=torch.int64, device=y.device).scatter_add_(0, c, one)
        for c in (hits, predicted, y)
    ]
    return torch.stack(rows)[:, :num_classes]


def macro_f1(counts: Tensor) -> Tensor:
    """The mean over classes of 2 hits / (predicted + there), of ``class_counts``; absent classes do not count.

    >>> macro_f1(torch.tensor([[1, 1], [1, 2], [2, 1]]))
    tensor(0.6667, dtype=torch.float64)
    """
    hits, predicted, there = counts.cpu().double()
    occurs = predicted + there > 0
    return (2 * hits / (predicted + there).clamp_min(1)).sum() / occurs.sum()


@dataclass(frozen=True)
class Score:
    """The validation metric that chooses the best weights, stops a run early and is what a sweep optimises.

    Attributes:
        score: its name.
        higher_is_better: which way is better.
    """

    score: str
    higher_is_better: bool


def steered_by(run: Run) -> Score:
    """The metric that steers a run: the objective's own score, or what ``objective_metric`` names.

    Raises:
        ValueError: there is no such metric, or it is none of the validation split.
    """
    objective, wanted = run.objective, run.cfg["objective_metric"]
    if wanted is None:
        return Score(objective.score, objective.higher_is_better)
    split, _, name = str(wanted).rpartition("/")
    batch = next(run.data.val.batches([torch.arange(1)]))
    outputs = run.predict(run.state, batch["x"])
    metrics = objective.judge(outputs, batch["y"])[1]["metrics"]
    known = [*metrics, *(["f1"] if "f1" not in metrics and has_classes(metrics, outputs, batch["y"]) else [])]
    listed = ", ".join(f"val/{metric}" for metric in known)
    if split != "val":
        raise ValueError(
            f"objective_metric={wanted} cannot steer a run: only the validation split may. Known: {listed}."
        )
    if name not in known:
        raise ValueError(
            f"objective_metric={wanted} is unknown. {suggest(wanted, [f'val/{m}' for m in known])} Known: {listed}."
        )
    lower = name in LOWER_IS_BETTER if name != objective.score else not objective.higher_is_better
    return Score(name, not lower)
