"""A member of a stack: a job, its run, and how it leaves with the output folder it would have had alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mltricks.data.splits import DataSplits
from mltricks.launch.job import Job
from mltricks.memory import is_out_of_memory
from mltricks.observers.create import InSweep
from mltricks.process.atomic import NotWritten
from mltricks.session import BEST, Session, new_summary, note_failure, prepare
from mltricks.state import State, map_state
from mltricks.summary import Summary
from mltricks.weights import predicting_weights, save_weights

PREDICTS = ("params", "buffers", "own", "step")
"""The parts of a state that a prediction needs; and ``opt``, where the optimiser predicts with weights of its own."""
TESTED = ("completed", "stopped_early")
"""Outcomes whose best weights are measured on the test split."""
RESUMABLE = (*TESTED, "pruned", "interrupted")
"""Outcomes with a checkpoint to go on from; the weights of the others are not finite, or were lost."""


@dataclass
class Member:
    """A job that is trained with others.

    Attributes:
        job: the job.
        session: its run and what stands beside it; of its state the run has only the step while nobody looks at it.
        best: the part of the best state so far that predicts, copied; ``None`` before the first validation.
        leaves: how it ends, once that is known; the rest goes on without it.
    """

    job: Job
    session: Session
    best: State | None = None
    leaves: str | None = None

    def attempt(self, do: Callable[..., Any], *arguments: Any) -> Any:
        """Call something of this member's; what goes wrong is its own matter, but for a lack of memory.

        Raises:
            RuntimeError: out of memory, which concerns the whole stack.
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
        """Copy what of a state predicts."""
        parts = [*PREDICTS, *(["opt"] if hasattr(self.session.run.optim, "evaluate") else [])]
        self.best = map_state(lambda t: t.clone(), {part: state[part] for part in parts})

    def close(self) -> None:
        """Write the weights, the checkpoint and the summary; the run has its last state."""
        self.attempt(self._write)
        self.session.summary.status = self.leaves or "completed"
        self.attempt(self.session.conclude)

    def _write(self) -> None:
        if self.leaves in RESUMABLE:
            self.save()
        else:
            self.save_best()

    def save(self) -> None:
        """Write the best weights and the checkpoint; the run has its state."""
        self.save_best()
        self.session.save()

    def save_best(self) -> None:
        """Write the best weights so far."""
        run = self.session.run
        if self.best is not None:
            save_weights(self.session.folder / BEST, run, *predicting_weights(run, self.best))

    def give_back(self, why: str) -> None:
        """Let the observers finish: the job is begun again elsewhere."""
        summary = self.session.summary
        summary.status, summary.error = "interrupted", why
        self.attempt(self.session.conclude)


def enlist(job: Job, num_trials: int, data: DataSplits | None) -> Member | Summary:
    """A member for a job, or the summary of its failure where its configuration is refused.

    Args:
        job: the job.
        num_trials: how many are to be trained at once.
        data: of another member; ``None`` to load.
    """
    summary = new_summary(job.folder, job.overrides)
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
    """Write a summary where the disk takes it; the error it tells of is the one to tell."""
    try:
        summary.write(job.folder / "summary.json")
    except NotWritten:
        summary.error = f"{summary.error} (and {job.folder / 'summary.json'} could not be written)"
