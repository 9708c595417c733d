"""The observer: runs on the host, sees metrics and state (read-only), and may request a stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mltricks.batch import Batch
from mltricks.state import State

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

Record = dict[str, Any]
"""One line of ``metrics.jsonl``.

The metrics of a training record are means over the steps since the previous record. The last one of an epoch, or of
the run, also has the means over the whole epoch: ``epoch_loss``, ``epoch_accuracy``.
"""
AROUND = ("step", "epoch", "split", "lr", "samples_per_s", "seconds")
"""Entries of a record that are no metrics."""
EPOCH = "epoch_"
"""Prefix of the names of means over an epoch."""


def of_epoch(record: Record) -> Record:
    """A training record with the means over its epoch, if it has any, instead of those since the previous record.

    >>> of_epoch({"epoch": 1, "loss": 0.5, "epoch_loss": 0.7}), of_epoch({"epoch": 1, "loss": 0.5})
    ({'epoch': 1, 'loss': 0.7}, {'epoch': 1, 'loss': 0.5})
    """
    means = {name.removeprefix(EPOCH): value for name, value in record.items() if name.startswith(EPOCH)}
    return {name: value for name, value in record.items() if not name.startswith(EPOCH)} | means


def curve(records: Sequence[Record], name: str) -> list[tuple[int, float]]:
    """Steps and values of a metric of one split: means of epochs if there are two or more, else all records."""
    epochs = [r for r in records if r["split"] != "train" or f"{EPOCH}{name}" in r]
    shown = [of_epoch(r) for r in epochs] if len(epochs) > 1 else records
    return [(r["step"], r[name]) for r in shown if r.get(name) is not None]


@dataclass(frozen=True)
class Moment:
    """The information for observers after a validation.

    Attributes:
        state: read-only; its tensors may change at the next step.
        record: the record of the validation.
        is_best: whether this validation is the best so far.
    """

    state: State
    record: Record
    is_best: bool


class Observer:
    """The base class: every method does nothing."""

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        """The run starts, or continues after ``resumed_at`` updates; output goes to ``folder``."""

    def updated(self, metrics: dict[str, Tensor]) -> None:
        """Called after every update of a run alone, before ``step``.

        Args:
            metrics: of the update, 0-d each. Reading a value at every update would synchronise with the device.
        """

    def step(self, step: int) -> None:
        """Called after every update, so it must be cheap."""

    def record(self, record: Record) -> None:
        """Called with every record of metrics: a line of ``metrics.jsonl``."""

    def validated(self, moment: Moment) -> bool:
        """Called after a validation; returning ``True`` stops the run."""
        return False

    def hopeless(self) -> bool:
        """Whether to stop the run as hopeless; called after ``validated`` of all runs that train together."""
        return False

    def stopped(self) -> bool:
        """Whether this observer had stopped the run before a restart; called once, after ``start``."""
        return False

    def tested(self, batch: Batch, outputs: Tensor) -> None:
        """Called after training with every batch of the test split, in order, and the outputs of the best weights."""

    def finish(self, summary: Summary) -> None:
        """Called when the run ends, for any reason; ``summary`` is the content of ``summary.json``."""

    def memory(self) -> dict[str, Tensor]:
        """The state of this observer that must survive a restart."""
        return {}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Restore the state that ``memory`` returned before the restart."""
