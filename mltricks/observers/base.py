"""The observer: host side, read-only. It sees metrics and state every so many steps and may ask to stop."""

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

The metrics of a training record are means over the steps since the record before. The one that ends an epoch, or the
run, has the means over the whole epoch besides: ``epoch_loss``, ``epoch_accuracy``.
"""
EPOCH = "epoch_"
"""How the names of these begin."""


def of_epoch(record: Record) -> Record:
    """A training record with the means over its epoch in the place of those since the record before, where it has any.

    >>> of_epoch({"epoch": 1, "loss": 0.5, "epoch_loss": 0.7}), of_epoch({"epoch": 1, "loss": 0.5})
    ({'epoch': 1, 'loss': 0.7}, {'epoch': 1, 'loss': 0.5})
    """
    means = {name.removeprefix(EPOCH): value for name, value in record.items() if name.startswith(EPOCH)}
    return {name: value for name, value in record.items() if not name.startswith(EPOCH)} | means


def curve(records: Sequence[Record], name: str) -> list[tuple[int, float]]:
    """Steps and values of a metric of one split: means of epochs where there are two or more, else all records."""
    epochs = [r for r in records if r["split"] != "train" or f"{EPOCH}{name}" in r]
    shown = [of_epoch(r) for r in epochs] if len(epochs) > 1 else records
    return [(r["step"], r[name]) for r in shown if r.get(name) is not None]


@dataclass(frozen=True)
class Moment:
    """What an observer sees after a validation.

    Attributes:
        state: the state, to be read and not written; its tensors may change at the next step.
        record: the record of the validation.
        is_best: whether this validation is the best so far.
    """

    state: State
    record: Record
    is_best: bool


class Observer:
    """The base: sees everything and does nothing."""

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        """The run begins, or goes on after ``resumed_at`` updates; output goes to ``folder``."""

    def step(self, step: int) -> None:
        """An update was made; called for every one, so it must cost next to nothing."""

    def record(self, record: Record) -> None:
        """Metrics were measured: a line for ``metrics.jsonl``."""

    def validated(self, moment: Moment) -> bool:
        """A validation was made; ``True`` asks to stop."""
        return False

    def hopeless(self) -> bool:
        """Whether the run is to be given up; asked after a validation, when all runs that train together were told."""
        return False

    def stopped(self) -> bool:
        """Whether this observer had asked to stop before a restart; asked once, after ``start``."""
        return False

    def tested(self, batch: Batch, outputs: Tensor) -> None:
        """A batch of the test split and the outputs of the best weights on it, in order, when training is over."""

    def finish(self, summary: Summary) -> None:
        """The run ended, in whatever way; ``summary`` is the content of ``summary.json``."""

    def memory(self) -> dict[str, Tensor]:
        """What this observer must remember over a restart."""
        return {}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Take back what ``memory`` gave before the restart."""
