"""Regression by mean squared error.

Shapes: B batch, N samples, D values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.data.info import Info
from mltricks.figures.parts import Chart, Section, Table
from mltricks.objectives.base import Objective, Outcome, Sheet

NUM_WORST = 16


@dataclass(frozen=True)
class Regress(Objective):
    """Mean squared error between the model's output and ``y``.

    Shapes: output (B, D) float; ``y`` (B, D) or, for D = 1, (B,) float.
    """

    targets: ClassVar[tuple[str, ...]] = ("values",)
    further: ClassVar[str] = "regression"

    def mean(self, output: Tensor, y: Tensor) -> Tensor:
        return (output - y.reshape(output.shape)).square().mean()

    def per_sample(self, output: Tensor, y: Tensor) -> Tensor:
        return (output - y.reshape(output.shape)).square().flatten(1).mean(1)

    def metrics(self, output: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Mean absolute error."""
        return {"mae": (output - y.reshape(output.shape)).abs().mean()}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The constant outputs (D,) that fit all targets best: their means."""
        return y.reshape(len(y), num_outputs).mean(0)

    def linear(self, x: Tensor, y: Tensor, num_outputs: int) -> Callable[[Tensor], Tensor]:
        """Fit a ridge regression with penalty 1 and an intercept."""
        x, y = x.cpu().double(), y.reshape(len(y), -1).double()
        x_mean, y_mean = x.mean(0), y.mean(0)
        centred = x - x_mean
        gram = centred.T @ centred + torch.eye(x.shape[1], dtype=x.dtype)
        weight = torch.linalg.solve(gram, centred.T @ (y - y_mean))
        return lambda x: ((x.cpu().double() - x_mean) @ weight + y_mean).float()

    def noise(self, info: Info, size: int, device: torch.device) -> Tensor:
        return torch.randn(size, info.num_outputs, device=device)

    def ignorant(self, output: Tensor, y: Tensor) -> tuple[Tensor, str]:
        """Predict the mean of the targets: its mean squared error is their variance."""
        return y.reshape(output.shape).mean(0).expand_as(output), "the variance of the target"

    def spread(self, y: Tensor) -> dict[str, float]:
        return {"target_mean": float(y.mean()), "target_std": float(y.std(correction=0))}

    def digest(self, output: Tensor, y: Tensor) -> Outcome:
        return {"y": y.reshape(len(y), -1), "predicted": self.predict(output).reshape(len(y), -1)}

    def mistakes(self, outcome: Outcome, info: Info, most: int) -> tuple[Tensor, dict[str, list[Any]]]:
        """The samples with the largest errors; of several targets, a list of each."""
        order = worst(outcome, most)
        values = {key: outcome[key][order].tolist() for key in ("y", "predicted")}
        true, predicted = ([row[0] if len(row) == 1 else row for row in rows] for rows in values.values())
        return order, {"true": true, "predicted": predicted, "test sample": order.tolist()}

    def sections(self, outcome: Outcome, sheet: Sheet) -> Sequence[Callable[[], Section]]:
        return [partial(values_section, outcome, sheet), partial(worst_section, outcome, sheet)]


def worst(outcome: Outcome, most: int = NUM_WORST) -> Tensor:
    """The positions of the samples with the largest errors."""
    badness = (outcome["predicted"] - outcome["y"]).square().sum(1)
    return badness.argsort(descending=True, stable=True)[:most]


def values_section(outcome: Outcome, sheet: Sheet) -> Section:
    """Predicted against true values, and residuals."""
    from mltricks.figures.predictions import predicted_values, residuals

    true, predicted = (outcome[key].flatten().tolist() for key in ("y", "predicted"))
    charts = [Chart("predictions", predicted_values(true, predicted), still=True)]
    return Section("Predictions, test split", [*charts, Chart("residuals", residuals(predicted, true))])


def worst_section(outcome: Outcome, sheet: Sheet) -> Section:
    """The samples with the largest errors."""
    rows = [
        [int(i), *(", ".join(f"{v:.4g}" for v in outcome[key][i].tolist()) for key in ("y", "predicted"))]
        for i in worst(outcome)
    ]
    return Section("Largest errors", [Table(["test sample", "true", "predicted"], rows)])
