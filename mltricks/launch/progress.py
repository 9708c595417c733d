"""The progress of a sweep: one line per finished job, and a progress bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from mltricks.launch.job import Job
from mltricks.process.atomic import first_line
from mltricks.summary import read_summary

SEARCHED: ContextVar[frozenset[str]] = ContextVar("SEARCHED", default=frozenset())
"""Keys that every line shows, even if all jobs of a launch happen to have the same value."""


@contextmanager
def showing(keys: Iterable[str]) -> Iterator[None]:
    """A context in which the lines of launched jobs always show these keys."""
    token = SEARCHED.set(frozenset(keys))
    try:
        yield
    finally:
        SEARCHED.reset(token)


class Progress:
    """Prints a line for every job that ends.

    Args:
        jobs: the jobs of the sweep, or of one batch of it.
    """

    def __init__(self, jobs: Sequence[Job]):
        self.num_jobs = len(jobs)
        shared = [set(job.overrides) for job in jobs]
        common = set.intersection(*shared) if len(jobs) > 1 else set()
        self.common = {text for text in common if text.partition("=")[0].lstrip("+") not in SEARCHED.get()}
        self.width = len(str(max((job.num for job in jobs), default=0)))
        self.bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stdout.isatty() and self.num_jobs > 1:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            counted = (MofNCompleteColumn(), TimeElapsedColumn(), "left", TimeRemainingColumn())
            self.bar = Bar(TextColumn("trials"), BarColumn(), *counted, transient=True)
            self.bar.add_task("trials", total=self.num_jobs)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.bar is None:
            print(text, flush=True)
        else:
            self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def end(self, job: Job, result: Any) -> None:
        """Print the outcome of a job."""
        own = " ".join(override for override in job.overrides if override not in self.common)
        self.say(f"#{job.num:<{self.width}}  {own + '  ' if own else ''}{outcome(job, result)}")
        if self.bar is not None:
            self.bar.advance(self.bar.task_ids[0])


def outcome(job: Job, result: Any) -> str:
    """The outcome of a job in a few words: status, score and time, or the error."""
    value, summary = result._return_value, read_summary(job.folder / "summary.json")
    if summary is None:
        if isinstance(value, BaseException):
            return f"failed: {first_line(value)}"
        return "done" if value is None else f"done  {value}"
    if summary.status == "failed":
        return f"failed: {(summary.error or 'no reason given').splitlines()[0]}"
    score = summary.objective.get("value")
    measured = f"  {summary.objective['name']} {score:.4g}" if isinstance(score, int | float) else ""
    return f"{summary.status}{measured}  {summary.seconds:.1f} s"
