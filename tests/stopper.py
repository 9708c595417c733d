"""An observer that sends its own process a signal at a chosen moment, so that tests with signals are repeatable."""

from __future__ import annotations

import os
from pathlib import Path

from mltricks.build import Run
from mltricks.observers.base import Observer, Record


class Stopper(Observer):
    """Sends signal ``number`` the ``at``-th time that ``moment`` comes.

    Args:
        moment: ``setup`` (while the run is built), ``start``, ``step``, ``val`` or ``test`` (during this record).
        at: the occurrence, counted from 1; ignored for ``setup``.
        number: number of the signal.
    """

    def __init__(self, moment: str, at: int, number: int):
        self.moment, self.at, self.number, self.seen = moment, at, number, 0
        if moment == "setup":
            os.kill(os.getpid(), number)

    def meet(self, moment: str) -> None:
        self.seen += moment == self.moment
        if moment == self.moment and self.seen == self.at:
            os.kill(os.getpid(), self.number)

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.meet("start")

    def step(self, step: int) -> None:
        self.meet("step")

    def record(self, record: Record) -> None:
        self.meet(record["split"])
