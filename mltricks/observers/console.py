"""Console output of a run: a header, a row for every validation, the result; on a terminal also a progress bar."""

from __future__ import annotations

import atexit
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mltricks.batch import Batch
from mltricks.evaluate import steered_by
from mltricks.observers.bar import draws_bars, progress_bar
from mltricks.observers.base import Moment, Observer, Record
from mltricks.observers.closing import closing
from mltricks.observers.epoch_table import EpochTable
from mltricks.observers.formats import WIDTH, about, number, wrapped
from mltricks.observers.glimpse import Glimpse
from mltricks.observers.header import header

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

EARLY_S = 10.0
"""Seconds without a row after which a line says how the loss moves; the next ones follow at three times the time."""

STYLES = dict(epoch="bold", step="dim", loss="yellow", score="green", speed="cyan", left="magenta")
"""Styles of the fields beside the bar, from left to right; the bar follows the first."""


def create_console(progress: str, overrides: Sequence[str] = ()) -> Observer | None:
    """The observer for the setting ``progress``; ``auto`` is a bar on a terminal and lines elsewhere.

    Args:
        progress: the setting.
        overrides: of the command, for the header.
    """
    if progress == "none":
        return None
    if progress == "lines" or (progress == "auto" and not draws_bars()):
        return Lines(overrides)
    return Bar(overrides)


class Lines(Observer):
    """A header, a row for every validation, and the result."""

    def __init__(self, overrides: Sequence[str] = ()) -> None:
        self.overrides = overrides

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.folder, self.run_cfg, self.num_val = folder, run.cfg, len(run.data.val)
        self.score, self.steps_per_epoch = steered_by(run).score, run.source.steps_per_epoch
        self.num_steps, self.num_epochs = run.total_steps, -(-run.total_steps // self.steps_per_epoch)
        self.done = self.resumed_at = resumed_at
        self.train: Record = {}
        self.width = shutil.get_terminal_size((WIDTH, 24)).columns
        self.table = EpochTable(self.num_epochs, self.score, self.width)
        self.glimpse = Glimpse(tuple(dict.fromkeys(("loss", self.score))))
        for line in header(run, self.overrides, self.width):
            self.say(line)
        for message in run.messages:
            self.say(message)
        self.begun = self.row_at = time.perf_counter()
        self.speaks_at = self.begun + EARLY_S

    def updated(self, metrics: dict[str, Tensor]) -> None:
        self.glimpse.offer(metrics)

    def step(self, step: int) -> None:
        self.done = step
        if not self.table.columns and time.perf_counter() > self.speaks_at and self.glimpse.latest:
            self.speaks_at = self.begun + 3 * (time.perf_counter() - self.begun)
            for line in wrapped("", self.early(), self.width):
                self.say(line)

    def early(self) -> list[str]:
        """How training goes before the first validation."""
        every = self.steps_per_epoch * self.run_cfg["eval_every_epochs"]
        first = min(self.num_steps, (self.resumed_at // every + 1) * every)
        means = [f"{name} {number(value)}" for name, value in self.glimpse.means().items()]
        wait = (first - self.done) / self.speed()
        return [f"step {self.done:,} of {self.num_steps:,}:", *means, f"first validation in about {about(wait)}"]

    def speed(self) -> float:
        """Updates per second since the start, validations included; above 0."""
        return max(self.done - self.resumed_at, 1e-9) / max(time.perf_counter() - self.begun, 1e-9)

    def record(self, record: Record) -> None:
        if record["split"] == "train":
            self.train = record

    def validated(self, moment: Moment) -> bool:
        now, remaining = time.perf_counter(), self.num_steps - moment.record["step"]
        took, self.row_at = now - self.row_at, now
        left = remaining / self.speed() if remaining else None
        *titles, row = self.table.lines(self.train, moment.record, took, left, moment.is_best)
        for line in titles:
            self.say(line, "dim")
        self.say(row, "green" if moment.is_best else "")
        return False

    def finish(self, summary: Summary) -> None:
        for line in closing(summary, self.folder, self.run_cfg, self.num_val, self.width):
            self.say(line)

    def say(self, line: str, style: str = "") -> None:
        """Print a line; only a terminal shows its style."""
        print(line, flush=True)


class Bar(Lines):
    """A progress bar below the lines. A thread of rich draws it, so an update only stores its number."""

    def __init__(self, overrides: Sequence[str] = ()) -> None:
        super().__init__(overrides)
        self.bar: Any = None
        self.ended = False

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.done, self.num_steps, self.batch_size = resumed_at, run.total_steps, run.cfg["batch_size"]
        self.bar = progress_bar(self, STYLES)
        super().start(run, folder, resumed_at)
        self.bar.start()
        atexit.register(self.bar.stop)  # restores the cursor if the process exits without ``finish``

    def step(self, step: int) -> None:
        self.done = step

    def tested(self, batch: Batch, outputs: Tensor) -> None:
        self.ended = True  # also before the last step, where a run stops early

    def say(self, line: str, style: str = "") -> None:
        self.bar.console.print(line, style=style or None, highlight=False, markup=False, soft_wrap=True)

    def finish(self, summary: Summary) -> None:
        if self.bar is None:
            return
        self.bar.refresh()
        self.bar.stop()
        atexit.unregister(self.bar.stop)
        super().finish(summary)

    def fields(self) -> dict[str, str]:
        """The fields beside the bar, by the names of ``STYLES``, the most important first."""
        speed, epoch = self.speed(), max(1, -(-self.done // self.steps_per_epoch))
        ended = self.ended or self.done >= self.num_steps
        means = {name: f"{name} {number(value)}" for name, value in self.glimpse.means().items()}
        running = self.resumed_at < self.done and not ended
        left = about((self.num_steps - self.done) / speed) if running else ""
        return {
            "loss": means.get("loss", ""),
            "left": "testing" if ended else left,
            "epoch": f"epoch {epoch}/{self.num_epochs}",
            "score": means.get(self.score, "") if self.score != "loss" else "",
            "step": f"{self.done}/{self.num_steps}",
            "speed": f"{speed * self.batch_size:,.0f}/s" if running else "",
        }

    def below(self) -> list[str]:
        """Nothing stands below the bar of a run."""
        return []
