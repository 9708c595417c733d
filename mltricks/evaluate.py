"""Measure a model on a split, and choose the metric that steers the run.

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
from mltricks.metrics import Metrics, check_new
from mltricks.state import State

if TYPE_CHECKING:
    from mltricks.build import Run

NONE = Metrics()
Watch = Callable[[Batch, Any], None]
"""Called with every batch of a split and the model's outputs on it."""

LOWER_IS_BETTER = ("loss", "mae", "rmse", "mse", "perplexity", "error", "bits_per_character", "ece", "brier")
"""Metrics where a lower value is better; for all others a higher one is."""


@torch.no_grad()
def evaluate(
    predict: Callable[[State, Any], Any],
    objective: Any,
    state: State,
    split: Split,
    batch_size: int,
    watch: Sequence[Watch] = (),
    metrics: Metrics = NONE,
) -> dict[str, float]:
    """The objective's metrics over a whole split, in which every sample has the same weight, and further ones.

    Args:
        predict: function of the state and raw inputs that returns outputs.
        objective: computes the metrics.
        state: of the run.
        split: samples to measure on.
        batch_size: samples per forward pass.
        watch: called with every batch and its outputs.
        metrics: of torchmetrics.
    """
    tally, meter = Tally(objective), metrics.meter()
    watching: list[Watch] = [*watch, meter]
    for batch in in_order(split, batch_size):
        outputs = predict(state, batch["x"])
        tally.add(measure_batch(objective, outputs, batch["y"]), len(batch["y"]))
        for see in watching:
            see(batch, outputs)
    return {name: float(value) for name, value in tally.means().items()} | meter.values()


COUNTED = "counted "
"""Prefix of the entries of ``measure_batch`` that are sums over samples, not means."""


def measure_batch(objective: Any, outputs: Any, y: Tensor) -> dict[str, Tensor]:
    """The objective's metrics and counts on a batch, each 0-d."""
    counts = {COUNTED + name: value for name, value in objective.counts(outputs, y).items()}
    return {**objective.judge(outputs, y)[1]["metrics"], **counts}


class Tally:
    """Accumulates the results of ``measure_batch`` over a split, for one run or, with a leading axis, for several.

    Args:
        objective: turns the sums into metrics.
    """

    def __init__(self, objective: Any) -> None:
        self.objective = objective
        self.totals: dict[str, Tensor] = {}
        self.num_samples = 0

    def add(self, judged: dict[str, Tensor], num_samples: int) -> None:
        """Add a batch."""
        self.num_samples += num_samples
        for name, value in judged.items():
            weighted = value if name.startswith(COUNTED) else value.cpu().double() * num_samples
            self.totals[name] = self.totals[name] + weighted if name in self.totals else weighted

    def means(self) -> dict[str, Tensor]:
        """The metrics over all samples, float64 on the CPU."""
        means = {name: t / self.num_samples for name, t in self.totals.items() if not name.startswith(COUNTED)}
        counts = {n.removeprefix(COUNTED): total for n, total in self.totals.items() if n.startswith(COUNTED)}
        return means | self.objective.from_counts(counts)


@dataclass(frozen=True)
class Score:
    """The validation metric that selects the best weights, triggers early stopping, and that sweeps optimise.

    Attributes:
        score: its name.
        higher_is_better: the direction.
    """

    score: str
    higher_is_better: bool


def metric_names(run: Run) -> list[str]:
    """The names of a run's validation metrics, found by measuring one sample."""
    batch = next(run.data.val.batches([torch.arange(1)]))
    tally = Tally(run.objective)
    tally.add(measure_batch(run.objective, run.predict(run.state, batch["x"]), batch["y"]), 1)
    names = list(tally.means())
    check_new(run.metrics.names, names)
    return [*names, *run.metrics.names]


def steered_by(run: Run) -> Score:
    """The metric that steers a run: the objective's own score, or what ``objective_metric`` names.

    Raises:
        ValueError: the metric does not exist, or does not belong to the validation split.
    """
    objective, wanted = run.objective, run.cfg["objective_metric"]
    known = metric_names(run) if wanted is not None or run.metrics.names else []
    if wanted is None:
        return Score(objective.score, objective.higher_is_better)
    split, _, name = str(wanted).rpartition("/")
    listed = ", ".join(f"val/{metric}" for metric in known)
    if split != "val":
        raise ValueError(
            f"objective_metric={wanted} cannot steer a run: only the validation split may. Known: {listed}."
        )
    if name not in known:
        raise ValueError(
            f"objective_metric={wanted} is unknown. {suggest(wanted, [f'val/{m}' for m in known])} Known: {listed}."
        )
    return Score(name, direction(name, objective, run.metrics))


def direction(name: str, objective: Any, metrics: Metrics) -> bool:
    """Whether a higher value of a metric of validation is better."""
    if name in metrics.names:
        return metrics.higher_is_better(name)
    return objective.higher_is_better if name == objective.score else name not in LOWER_IS_BETTER
