"""The outcomes of a sweep's jobs, and the errors that report failed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mltricks.config.stages import as_typed
from mltricks.summary import Summary

FINAL = ("completed", "stopped_early", "pruned", "diverged", "failed")
"""Final statuses: the sweeper does not run such a job again."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Attributes:
        num: its number in the sweep.
        overrides: the overrides that define it.
        folder: its output folder.
        summary: the content of its ``summary.json``; status ``failed`` and the error if the job wrote none.
    """

    num: int
    overrides: list[str]
    folder: Path
    summary: Summary


class JobsFailed(ValueError):
    """A sweep has ended, and some of its jobs failed."""


def refuse_failures(outcomes: Sequence[Outcome]) -> None:
    """Report failed and interrupted jobs.

    Raises:
        JobsFailed: a job failed, or none was completed; the message names the jobs and their errors.
    """
    lost = [o for o in outcomes if o.summary.status in ("failed", "interrupted")]
    if lost:
        lines = [f"{len(lost)} of {len(outcomes)} jobs did not complete", *said_once(lost)]
        if any(o.summary.status == "interrupted" for o in lost):
            lines.append("Type the same command again to run the interrupted jobs.")
        raise JobsFailed("\n".join(lines))
    if outcomes and not any(o.summary.status in ("completed", "stopped_early") for o in outcomes):
        raise JobsFailed("\n".join(["no job was completed", *map(line, outcomes[:1])]))


def said_once(outcomes: Sequence[Outcome]) -> list[str]:
    """One line for each distinct error, naming all jobs that have it."""
    reasons: dict[tuple[str, str | None], list[Outcome]] = {}
    for outcome in outcomes:
        reasons.setdefault((outcome.summary.status, outcome.summary.error), []).append(outcome)
    return [line(same[0]) + (f" (same error: {others(same[1:])})" if same[1:] else "") for same in reasons.values()]


def others(outcomes: Sequence[Outcome]) -> str:
    """The numbers of jobs, as words."""
    return f"job{'s' if len(outcomes) > 1 else ''} {', '.join(str(o.num) for o in outcomes)}"


def line(outcome: Outcome) -> str:
    """One line: the job, its status and the first line of its error."""
    error = (outcome.summary.error or "").split("\n")[0]
    return f"job {outcome.num} ({' '.join(map(as_typed, outcome.overrides))}) {outcome.summary.status}: {error}"
