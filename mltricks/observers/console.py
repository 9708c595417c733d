"""Console output of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import atexit
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltricks.config.overrides import typed
from mltricks.evaluate import steered_by
from mltricks.observers.base import Moment, Observer, Record, of_epoch

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

REFRESHES_PER_SECOND = 4


def create_console(progress: str) -> Observer | None:
    """The observer for the setting ``progress``; ``auto`` is a bar on a terminal and lines elsewhere."""
    if progress == "none":
        return None
    if progress == "lines" or (progress == "auto" and not sys.stdout.isatty()):
        return Lines()
    return Bar()


class Lines(Observer):
    """A line for every validation, and one for the result."""

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.folder, self.score = folder, steered_by(run).score
        self.train: Record = {}
        self.num_epochs, self.num_steps = run.cfg["epochs"], run.total_steps
        for message in run.messages:
            print(message, flush=True)

    def record(self, record: Record) -> None:
        if record["split"] == "train":
            self.train = record

    def validated(self, moment: Moment) -> bool:
        self.say(self.line(moment.record, moment.is_best))
        return False

    def finish(self, summary: Summary) -> None:
        for line in result_lines(summary, self.folder):
            self.say(line)

    def say(self, line: str) -> None:
        print(line, flush=True)

    def line(self, record: Record, is_best: bool) -> str:
        """The line for a validation."""
        wide, wider = len(str(self.num_epochs)), len(str(self.num_steps))
        parts = [
            f"epoch {record['epoch']:>{wide}}/{self.num_epochs}",
            f"step {record['step']:>{wider}}/{self.num_steps}",
        ]
        train = of_epoch(self.train)
        parts += [f"train loss {train['loss']:.4f}"] if "loss" in train else []
        parts += [f"val {self.score} {record[self.score]:.4f}"]
        parts += [f"{self.train['samples_per_s']:,.0f} samples/s"] if "samples_per_s" in self.train else []
        return "  ".join(parts) + ("  best" if is_best else "")


def result_lines(summary: Summary, folder: Path) -> list[str]:
    """One or two lines with the result of a run; empty if its error message suffices."""
    if summary.status == "interrupted":
        way = typed("resume", shown_folder(folder))
        return [f"interrupted at step {summary.steps}; continue with: python -m mltricks {way}"]
    if not summary.test:
        return []
    test = ", ".join(f"{name} {value:.4f}" for name, value in summary.test.items())
    value = summary.objective["value"]
    kept = f"best {summary.objective['name'].replace('/', ' ')} {value:.4f}"
    return [
        f"{summary.status.replace('_', ' ')}: test {test}  ({kept}, {summary.steps} steps, {summary.seconds:.1f} s)",
        shown_folder(folder),
    ]


def shown_folder(folder: Path) -> str:
    """A folder as a path to type: relative if it is below the working directory."""
    whole = folder.resolve()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(folder)


class Bar(Lines):
    """A progress bar below the lines. A thread of rich draws it, so a step only stores its number."""

    def __init__(self) -> None:
        self.done, self.bar = 0, None  # type: int, Any

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        super().start(run, folder, resumed_at)
        self.done = self.resumed_at = resumed_at
        self.begun, self.batch_size = time.perf_counter(), run.cfg["batch_size"]
        self.steps_per_epoch = run.source.steps_per_epoch
        self.bar = progress_bar(self)
        self.bar.start()
        atexit.register(self.bar.stop)  # restores the cursor if the process exits without ``finish``

    def step(self, step: int) -> None:
        self.done = step

    def say(self, line: str) -> None:
        assert self.bar is not None, "the run has started"
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def finish(self, summary: Summary) -> None:
        if self.bar is None:
            return
        self.bar.refresh()
        self.bar.stop()
        atexit.unregister(self.bar.stop)
        super().finish(summary)

    def fields(self) -> dict[str, str]:
        """The fields beside the bar, by name, from left to right."""
        speed = (self.done - self.resumed_at) / max(time.perf_counter() - self.begun, 1e-9)
        left = (self.num_steps - self.done) / speed if speed else 0.0
        epoch = min(self.num_epochs, self.done // self.steps_per_epoch + 1)
        fields = {"epoch": f"epoch {epoch}/{self.num_epochs}", "step": f"{self.done}/{self.num_steps}"}
        fields |= {name: f"{name} {self.train[name]:.3f}" for name in ("loss", "accuracy") if name in self.train}
        return {**fields, "speed": f"{speed * self.batch_size:,.0f}/s", "left": clock(left)}


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds.

    >>> clock(3725.0)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def progress_bar(source: Bar, console: Any = None) -> Any:
    """A progress bar of rich that reads the numbers of ``source`` at every refresh."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.text import Text

    class Field(ProgressColumn):
        """One of the fields of ``Bar``."""

        def __init__(self, name: str, style: str) -> None:
            super().__init__()
            self.name, self.style = name, style

        def render(self, task: Task) -> Text:
            return Text(task.fields.get(self.name, ""), style=self.style, no_wrap=True)

    class Pulled(Progress):
        """A bar that reads its progress at every refresh, so a step does not update it."""

        def get_renderables(self) -> Any:
            for task in self.tasks:
                task.completed = source.done
                task.fields.update(source.fields())
            return super().get_renderables()

    styles = {"step": "dim", "loss": "yellow", "accuracy": "green", "speed": "cyan", "left": "magenta"}
    columns = [Field("epoch", "bold"), BarColumn(None), *(Field(name, style) for name, style in styles.items())]
    bar = Pulled(*columns, console=console, refresh_per_second=REFRESHES_PER_SECOND, expand=True, transient=True)
    bar.add_task("", total=source.num_steps)
    return bar
