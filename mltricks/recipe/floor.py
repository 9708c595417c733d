"""The scores of trivial predictors on the validation split: the floor that a gate compares a trial with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mltricks.data.splits import DataSplits
from mltricks.summary import Summary
from mltricks.trivial import beats, constant, linear

LINEAR = "linear model"


@dataclass(frozen=True)
class Floor:
    """Metrics of trivial predictors on the validation split.

    Attributes:
        constant: metrics of the best constant prediction; empty if the objective defines none.
        linear: metrics of a linear model; empty if none can be fitted.
        size: number of samples of the split.
    """

    constant: dict[str, float]
    linear: dict[str, float]
    size: int

    def ignorant(self, expected: float) -> float:
        """The loss of a constant prediction: ``expected``, or that of the class frequencies if lower."""
        return min(expected, self.constant.get("loss", expected))

    def is_beaten_by(self, summary: Summary) -> bool:
        """Whether a trial is significantly better than the constant prediction, by its score or its loss."""
        objective = summary.objective
        score, higher = metric(objective), objective.get("direction") == "maximize"
        return not self.constant or beats(summary.val, self.constant, score, higher, self.size)

    def is_linear_enough(self, summary: Summary) -> bool:
        """Whether a linear model has at least the score of a trial."""
        score, sign = metric(summary.objective), 1 if summary.objective.get("direction") == "maximize" else -1
        return score in self.linear and sign * self.linear[score] >= sign * summary.objective["value"]

    def evidence(self, objective: dict[str, Any]) -> dict[str, float]:
        """The score of each predictor, by its name."""
        score = metric(objective)
        found = {"trivial predictor": self.constant, LINEAR: self.linear}
        return {name: metrics[score] for name, metrics in found.items() if score in metrics}

    def say(self, objective: dict[str, Any]) -> str:
        """The scores of both predictors in a sentence; empty if there are none."""
        said = ", ".join(f"{name} {value:.4g}" for name, value in self.evidence(objective).items())
        return f"For comparison: {said}." if said else ""


def metric(objective: dict[str, Any]) -> str:
    """The metric's name without its split."""
    return str(objective["name"]).rpartition("/")[2]


def measure_floor(cfg: dict[str, Any], data: DataSplits) -> Floor:
    """Measure both trivial predictors on the validation split.

    Args:
        cfg: the configuration, as nested dicts.
        data: the data that it names.
    """
    from mltricks.config.create import create

    objective, size = create(cfg["objective"], "objective", cfg["allow_modules"]).fitted(data), cfg["eval_batch_size"]
    found = constant(data, objective, size, "val"), linear(data, objective, size, "val")
    return Floor(found[0].get("val", {}), found[1].get("val", {}), len(data.val))
