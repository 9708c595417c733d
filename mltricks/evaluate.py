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
from mltricks.config.values import suggest
from mltricks.data.source import in_order
from mltricks.data.splits import Split
from mltricks.state import State

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
    tally = Tally()
    for batch in in_order(split, batch_size):
        outputs = predict(state, batch["x"])
        tally.add(judge(objective, outputs, batch["y"]), len(batch["y"]))
        for see in watch:
            see(batch, outputs)
    return {name: float(value) for name, value in tally.means().items()}


COUNTS = "class counts"
"""What ``judge`` gives besides the metrics where the outputs choose classes: sums, no means."""


def judge(objective: Any, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The objective's metrics of a batch, 0-d, and of classes what macro F1 is made of; works under ``vmap``."""
    metrics = dict(objective.judge(outputs, y)[1]["metrics"])
    if has_classes(metrics, outputs, y):
        metrics[COUNTS] = class_counts(outputs.argmax(1), y, outputs.shape[1])
    return metrics


class Tally:
    """Adds up what ``judge`` gives of the batches of a split, of one run or, with a leading axis, of several."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.num_samples = 0

    def add(self, judged: dict[str, Tensor], num_samples: int) -> None:
        """Add a batch."""
        self.num_samples += num_samples
        for name, value in judged.items():
            weighted = value if name == COUNTS else value.cpu().double() * num_samples
            self.totals[name] = self.totals[name] + weighted if name in self.totals else weighted

    def means(self) -> dict[str, Tensor]:
        """The metrics over all samples, float64 on the CPU."""
        means = {name: total / self.num_samples for name, total in self.totals.items() if name != COUNTS}
        if COUNTS in self.totals and "f1" not in means:
            means["f1"] = macro_f1(self.totals[COUNTS])
        return means


def has_classes(metrics: dict[str, Tensor], outputs: Tensor, y: Tensor) -> bool:
    """Whether each output is a choice of one class: (B, K) outputs with an accuracy against (B,) int64 labels."""
    return "accuracy" in metrics and outputs.ndim == 2 and y.ndim == 1 and not y.is_floating_point()


def class_counts(predicted: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """How often each class is predicted rightly, is predicted, and is there: (3, K) int64."""
    hits = torch.where(predicted == y, y, num_classes)
    one = torch.ones_like(y)
    rows = [
        torch.zeros(num_classes + 1, dtype=torch.int64, device=y.device).scatter_add(0, c, one)
        for c in (hits, predicted, y)
    ]
    return torch.stack(rows)[:, :num_classes]


def macro_f1(counts: Tensor) -> Tensor:
    """The mean over classes of 2 hits / (predicted + there), of ``class_counts``; absent classes do not count.

    Args:
        counts: (..., 3, K).

    >>> macro_f1(torch.tensor([[1, 1], [1, 2], [2, 1]]))
    tensor(0.6667, dtype=torch.float64)
    """
    hits, predicted, there = counts.cpu().double().unbind(-2)
    occurs = predicted + there > 0
    return (2 * hits / (predicted + there).clamp_min(1)).sum(-1) / occurs.sum(-1)


@dataclass(frozen=True)
class Score:
    """The validation metric that chooses the best weights, stops a run early and is what a sweep optimises.

    Attributes:
        score: its name.
        higher_is_better: which way is better.
    """

    score: str
    higher_is_better: bool


def metric_names(run: Run) -> list[str]:
    """The metrics of a run's validation split, found by one sample."""
    batch = next(run.data.val.batches([torch.arange(1)]))
    outputs = run.predict(run.state, batch["x"])
    metrics = run.objective.judge(outputs, batch["y"])[1]["metrics"]
    return [*metrics, *(["f1"] if "f1" not in metrics and has_classes(metrics, outputs, batch["y"]) else [])]


def steered_by(run: Run) -> Score:
    """The metric that steers a run: the objective's own score, or what ``objective_metric`` names.

    Raises:
        ValueError: there is no such metric, or it is none of the validation split.
    """
    objective, wanted = run.objective, run.cfg["objective_metric"]
    if wanted is None:
        return Score(objective.score, objective.higher_is_better)
    split, _, name = str(wanted).rpartition("/")
    known = metric_names(run)
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
