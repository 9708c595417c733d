"""Reports of a trial to its study, which may stop it early."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mltricks.evaluate import steered_by
from mltricks.observers.base import Moment, Observer

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.pruning.reporter import Reporter


class TrialObserver(Observer):
    """Reports the score that steers the run after each validation.

    Args:
        reporter: reports to the study.
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
