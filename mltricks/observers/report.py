"""The report of a finished run, ``plots/`` and ``report.html``: collects what the page shows of the test split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mltricks.batch import Batch
from mltricks.objectives.base import Outcome
from mltricks.observers.base import Observer

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

REPORTED = ("completed", "stopped_early", "diverged")


class Report(Observer):
    """Writes the report when the run ends. Its errors do not fail the run."""

    def __init__(self) -> None:
        self.parts: list[Outcome] = []
        self.run: Run | None = None

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.run, self.folder = run, folder

    def tested(self, batch: Batch, outputs: Tensor) -> None:
        from mltricks.observers.run_page.write import attempt

        assert self.run is not None, "the run has started"
        objective = self.run.objective
        part = attempt("error analysis", lambda: objective.digest(outputs, batch["y"]))
        self.parts.append(part or {})

    def finish(self, summary: Summary) -> None:
        run = self.run
        if run is None or summary.status not in REPORTED:
            return
        from mltricks.observers.run_page.write import attempt, write_report

        attempt("report.html", lambda: write_report(run, self.folder, summary, self.parts))
