"""A member of a stack: a job and its run, which end with the same output folder as they would alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mltricks.data.splits import DataSplits
from mltricks.launch.job import Job
from mltricks.memory import is_out_of_memory
from mltricks.observers.create import InSweep
from mltricks.process.atomic import NotWritten
from mltricks.saving import predicting_weights, save_weights
from mltricks.session import BEST, Session, new_summary, note_failure, prepare
from mltricks.state import State, map_state
from mltricks.summary import Summary

PREDICTS = ("params", "buffers", "own", "step")
"""The parts of a state that a prediction needs; plus ``opt`` if the optimiser predicts with its own weights."""
TESTED = ("completed", "stopped_early")
"""Statuses of runs whose best weights are evaluated on the test split."""
RESUMABLE = (*TESTED, "pruned", "interrupted")
"""Statuses of runs that end with a checkpoint; all others have non-finite weights, or lost them."""


@dataclass
class Member:
    """A job that trains in a stack.

    Attributes:
        job: the job.
        session: its session. The run in it has its whole state only between ``Fused.show`` and ``Fused.hide``.
        best: a copy of the parts of the best state that predict; ``None`` before the first validation.
        leaves: final status, set when the member is to leave the stack; ``None`` while it trains.
    """

    job: Job
    session: Session
    best: State | None = None
    leaves: str | None = None

    def attempt(self, do: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of this member. An error in it fails this member only, unless memory ran out.

        Raises:
            RuntimeError: out of memory, which affects the whole stack.
        """
        try:
            return do(*arguments)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            note_failure(self.session.summary, error)
            self.leaves = self.session.summary.status
            return None

    def keep_best(self, state: State) -> None:
        """Copy the parts of a state that predict."""
        parts = [*PREDICTS, *(["opt"] if hasattr(self.session.run.optim, "evaluate") else [])]
        self.best = map_state(lambda t: t.clone(), {part: state[part] for part in parts})

    def close(self) -> None:
        """Write the weights, the checkpoint and the summary; requires the run's final state."""
        self.attempt(self._write)
        self.session.summary.status = self.leaves or "completed"
        self.attempt(self.session.conclude)

    def _write(self) -> None:
        if self.leaves in RESUMABLE:
            self.save()
        else:
            self.save_best()

    def save(self) -> None:
        """Write the best weights and the checkpoint; requires the run's state."""
        self.save_best()
        self.session.save()

    def save_best(self) -> None:
        """Write the best weights so far."""
        run = self.session.run
        if self.best is not None:
            save_weights(self.session.folder / BEST, run, *predicting_weights(run, self.best))

    def give_back(self, why: str) -> None:
        """Close the observers of a member whose job will start again outside this stack."""
        summary = self.session.summary
        summary.status, summary.error = "interrupted", why
        self.attempt(self.session.conclude)


def enlist(job: Job, num_trials: int, data: DataSplits | None) -> Member | Summary:
    """Build the member for a job; if its configuration is invalid, return the summary of its failure.

    Args:
        job: the job.
        num_trials: number of trials in the stack.
        data: the data of another member; ``None``: load them.
    """
    summary = new_summary(job.folder, job.overrides, job.cfg)
    summary.fused = {"trials": num_trials}
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        return Member(job, prepare(job.cfg, job.folder, False, summary, InSweep(job.trial, quiet=True), data))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        note_failure(summary, error)
        write_unless_full(summary, job)
        return summary


def write_unless_full(summary: Summary, job: Job) -> None:
    """Write a summary. If the disk is full, add that to its error instead of raising, which would hide the error."""
    try:
        summary.write(job.folder / "summary.json")
    except NotWritten:
        summary.error = f"{summary.error} (and {job.folder / 'summary.json'} could not be written)"


def failure(job: Job, error: BaseException) -> Summary:
    """Make the summary of a job that failed before it wrote one."""
    summary = new_summary(job.folder, job.overrides, job.cfg)
    note_failure(summary, error)
    return summary
