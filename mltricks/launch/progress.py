"""The progress of a sweep: a line for every job that ends, and a bar with the count on a terminal."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from mltricks.launch.job import Job
from mltricks.launch.tally import TALLY, Tally, brief, shared_overrides, trained_share
from mltricks.launch.time_left import Running, seconds_left
from mltricks.observers.bar import draws_bars
from mltricks.observers.formats import WIDTH, about, duration, number, wrapped
from mltricks.process.atomic import first_line
from mltricks.summary import Summary, read_summary

EVERY_S = 30.0
"""Seconds between lines with the count, where there is no bar."""
STYLES = {"count": "bold", "running": "cyan", "others": "yellow", "left": "magenta"}


class Progress:
    """Prints a line for every job that ends, and shows how far the sweep is.

    Args:
        jobs: the jobs of a launch, which may be a part of the sweep.
        units: the same jobs in the groups that run together; one by one by default.
        workers: units that run at a time.
    """

    def __init__(self, jobs: Sequence[Job], units: Sequence[Sequence[Job]] = (), workers: int = 1):
        self.tally = TALLY.get() or Tally()
        self.before, self.num_jobs = self.tally.done, len(jobs)
        self.common = shared_overrides([job.overrides for job in jobs]) | self.tally.shared
        self.num_width = len(str(max((job.num for job in jobs), default=0)))
        self.waiting, self.workers = [len(unit) for unit in units or [[job] for job in jobs]], workers
        self.running: dict[int, tuple[Sequence[Job], float, set[int]]] = {}
        self.width = shutil.get_terminal_size((WIDTH, 24)).columns
        self.bar: Any = None
        self.said_at, self.left_at, self.left = time.monotonic(), 0.0, None  # type: float, float, float | None

    def __enter__(self) -> Progress:
        if draws_bars() and self.num_steps > 1:
            from mltricks.observers.bar import progress_bar

            self.bar = progress_bar(self, STYLES)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    @property
    def done(self) -> int:
        """Jobs of the sweep that have ended."""
        return self.tally.done

    @property
    def num_steps(self) -> int:
        """Jobs of the whole sweep, as far as it is known."""
        return self.tally.total or self.before + self.num_jobs

    def say(self, text: str, style: str = "") -> None:
        """Print a text, above the bar if there is one."""
        if self.bar is None:
            print(text, flush=True)
        else:
            self.bar.console.print(text, style=style or None, highlight=False, markup=False, soft_wrap=True)

    def note(self, notes: Iterable[str]) -> None:
        """Print how jobs run together, once in a sweep: its launches are alike."""
        for text in () if self.tally.notes else notes:
            self.tally.notes = True
            for line in wrapped("", [text], self.width):
                self.say(line)

    def starting(self, units: Iterable[Sequence[Job]]) -> Iterator[Sequence[Job]]:
        """The units, each noted as running when it is taken."""
        for unit in units:
            self.start(unit)
            yield unit

    def start(self, unit: Sequence[Job]) -> None:
        """Note that a unit runs."""
        self.waiting = self.waiting[1:]
        self.running[unit[0].num] = (unit, time.monotonic(), {job.num for job in unit})

    def end(self, job: Job, result: Any) -> None:
        """Print the outcome of a job, and what its run noted if no other has said the same with other numbers."""
        summary = summary_of(job, result)
        own = [override for override in job.overrides if override not in self.common]
        is_best = self.tally.add(job.num, summary, own)
        self.note_end(job, summary)
        parts = [*outcome(summary), *(["best"] if is_best else []), *map(brief, own)]
        style = "red" if summary.status == "failed" else "green" if is_best else ""
        head = f"#{job.num:<{self.num_width}}  "
        for line in wrapped(head, parts, self.width):
            self.say(line, style)
        for note in (text for text in summary.messages if text.startswith("note: ")):
            kind = re.sub(r"[\d.]+", "", note)
            for line in wrapped(" " * len(head), [note], self.width) if kind not in self.tally.said else ():
                self.say(line)
            self.tally.said.add(kind)
        if self.bar is None and time.monotonic() - self.said_at > EVERY_S and self.done < self.num_steps:
            self.said_at = time.monotonic()
            for line in [*wrapped("", [text for text in self.fields().values() if text], self.width), *self.below()]:
                self.say(line)

    def note_end(self, job: Job, summary: Summary) -> None:
        """Note how long a unit took when its last job ends; failed jobs tell nothing about the others."""
        self.left_at = 0.0
        for key, (unit, begun, left) in list(self.running.items()):
            left.discard(job.num)
            if not left:
                del self.running[key]
                if summary.status not in ("failed", "interrupted"):
                    self.tally.ended.append((len(unit), time.monotonic() - begun))

    def fields(self) -> dict[str, str]:
        """The count of jobs, by the names of ``STYLES``, the most important first."""
        running = sum(len(left) for _, _, left in list(self.running.values()))
        left = self.seconds_left()
        return {
            "count": f"{self.done}/{self.num_steps} done",
            "left": "" if left is None else f"{about(left)} left",
            "others": "  ".join(self.tally.words()),
            "running": f"{running} running" if running else "",
        }

    def below(self) -> list[str]:
        """The best job so far."""
        return [self.tally.best.words()] if self.tally.best is not None else []

    def seconds_left(self) -> float | None:
        """The time that the sweep still takes, s, measured anew once a second; ``None`` while nothing is known."""
        now = time.monotonic()
        if now - self.left_at >= 1:
            units = [(unit, now - begun) for unit, begun, _ in list(self.running.values())]
            running = [Running(len(unit), elapsed, share_of(unit[0])) for unit, elapsed in units]
            size = max([1, *self.waiting, *(len(unit) for unit, _ in units)])
            later = max(0, self.num_steps - self.before - self.num_jobs)
            waiting = [*self.waiting, *[size] * (later // size), *([later % size] if later % size else [])]
            self.left_at, self.left = now, seconds_left(self.tally.ended, running, waiting, self.workers)
        return self.left


def share_of(job: Job) -> float:
    """The part of a training job that is done."""
    return trained_share(job.folder, job.cfg["epochs"], job.cfg["max_steps"]) if "epochs" in job.cfg else 0.0


def summary_of(job: Job, result: Any) -> Summary:
    """The summary of a job; one that wrote none is described by what it returned."""
    value, summary = result._return_value, read_summary(job.folder / "summary.json")
    if summary is not None:
        return summary
    if isinstance(value, BaseException):
        return Summary("failed", error=first_line(value))
    return Summary("done", objective={} if value is None else {"name": "returned", "value": value})


def outcome(summary: Summary) -> list[str]:
    """The outcome of a job in a few words: status unless completed, score and time, or the error."""
    if summary.status == "failed":
        return [f"failed: {(summary.error or 'no reason given').splitlines()[0]}"]
    score = summary.objective.get("value")
    measured = [f"{summary.objective['name']} {number(score)}"] if isinstance(score, int | float) else []
    took = [duration(summary.seconds)] if summary.seconds else []
    status = [] if summary.status == "completed" and measured else [summary.status.replace("_", " ")]
    return [*status, *measured, *took]
