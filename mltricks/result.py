"""What ``mltricks.train`` returns: the content of ``summary.json``, and what a notebook does with a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mltricks.figures.training import learning_curves
from mltricks.history import History, curves_of, history_of
from mltricks.observers.files import read_records
from mltricks.predictor import Predictor, load_run
from mltricks.summary import Summary

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(repr=False, eq=False)
class Result(Summary):
    """The result of a run.

    It has the attributes of ``Summary``; the methods below read the output folder when they are called.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Summary) and asdict(self) == asdict(other)

    def __repr__(self) -> str:
        scores = {f"{split}/{name}": value for split in ("val", "test") for name, value in getattr(self, split).items()}
        shown = "".join(f"  {name} {value:.4g}" for name, value in scores.items())
        length = (
            f"{self.steps:,} steps, {self.epochs} {'epoch' if self.epochs == 1 else 'epochs'}, {self.seconds:.1f} s"
        )
        return f"{self.status.replace('_', ' ')}: {length}{shown}  {self.folder}"

    @property
    def history(self) -> History:
        """The run in columns of one length, one row for each validation: ``pandas.DataFrame(result.history)``.

        ``epoch``, ``step``, ``train/NAME`` and ``val/NAME`` for every metric, ``lr``, and ``seconds`` since the start.
        Training metrics are means over the epoch up to the validation. A value that was not measured is ``None``.
        """
        return history_of(read_records(Path(self.folder) / "metrics.jsonl"))

    def plot(self, *metrics: str) -> Figure:
        """Draw metrics over epochs, in training and validation.

        Args:
            *metrics: names without the split, such as ``"accuracy"``; by default the loss and the score.

        Raises:
            ValueError: a metric was not measured, or nothing was validated.
        """
        from plotly.graph_objects import Figure

        curves = curves_of(self.history, metrics or ("loss", str(self.objective.get("name")).rpartition("/")[2]))
        return Figure(learning_curves(curves, self.epoch_of.get("val")))

    @property
    def report(self) -> Path | None:
        """The page of the run; ``None`` if there is none: train with ``plots=true`` to have it written."""
        path = Path(self.folder) / "report.html"
        return path if path.is_file() else None

    def load(self, device: str = "auto") -> Predictor:
        """The model with its best weights, as ``mltricks.load`` gives it for this run's folder.

        Args:
            device: where to predict.
        """
        given: dict[str, Any] = vars(self).get("_given") or {}
        return load_run(self.folder, given.get("allow_modules", ()), device, given.get("model"))

    def module(self) -> nn.Module:
        """The trained model in plain torch, as ``mltricks.load(...).module()`` gives it."""
        return self.load().module()


def result_of(summary: Summary, model: nn.Module | None, allow_modules: list[str]) -> Result:
    """The result of a run from its summary.

    Args:
        summary: of the run.
        model: the module that a program gave; ``None`` if the configuration names one.
        allow_modules: packages that the caller allowed.
    """
    result = Result(**{field.name: getattr(summary, field.name) for field in fields(Summary)})
    vars(result)["_given"] = {"model": model, "allow_modules": allow_modules}
    return result
