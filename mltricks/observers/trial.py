"""A trial's reports to its study, which may give it up before its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mltricks.evaluate import steered_by
from mltricks.observers.base import Moment, Observer

if TYPE_CHECKING:
    from mltricks.build import Run


class Reporter(Protocol):
    """A trial of a study, as training sees it."""

    def due(self, epoch: int) -> bool:
        """Whether the study wants to hear of the validation after this epoch, counted from 1."""

    def report(self, epoch: int, value: float) -> None:
        """Tell the score that was reached."""

    def hopeless(self) -> bool:
        """Whether the trial is to be given up, by what it and the others have reported."""


class TrialObserver(Observer):
    """Reports the score that steers the run after each validation.

    Args:
        reporter: the study's.
    """

    def __init__(self, reporter: Reporter):
        self.reporter, self.told = reporter, False

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.score = steered_by(run).score

    def validated(self, moment: Moment) -> bool:
        epoch = moment.record["epoch"]
        self.told = self.reporter.due(epoch)
        if self.told:
            self.reporter.report(epoch, moment.record[self.score])
        return False

    def hopeless(self) -> bool:
        return self.told and self.reporter.hopeless()
