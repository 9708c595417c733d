"""What became of the jobs of a sweep, and whether that is a success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mltricks.summary import Summary

FINAL = ("completed", "stopped_early", "pruned", "diverged", "failed")
"""How a job can end that need not be run again."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        num: its number in the sweep.
        overrides: that made it.
        folder: its output folder.
        summary: the content of its ``summary.json``; of a job that wrote none, one that says ``failed`` and why.
    """

    num: int
    overrides: list[str]
    folder: Path
    summary: Summary


class JobsFailed(ValueError):
    """A sweep is over, and not all is well."""


def refuse_failures(outcomes: Sequence[Outcome]) -> None:
    """Refuse to call a sweep a success in which a job failed, or none was completed.

    Raises:
        JobsFailed: names the jobs and their errors.
    """
    lost = [o for o in outcomes if o.summary.status in ("failed", "interrupted")]
    if lost:
        lines = [f"{len(lost)} of {len(outcomes)} jobs did not come to their end", *said_once(lost)]
        if any(o.summary.status == "interrupted" for o in lost):
            lines.append("The same command again runs what was interrupted.")
        raise JobsFailed("\n".join(lines))
    if outcomes and not any(o.summary.status in ("completed", "stopped_early") for o in outcomes):
        raise JobsFailed("\n".join(["no job was completed", *map(line, outcomes[:1])]))


def said_once(outcomes: Sequence[Outcome]) -> list[str]:
    """Jobs that did not go well, in a line for each reason."""
    reasons: dict[tuple[str, str | None], list[Outcome]] = {}
    for outcome in outcomes:
        reasons.setdefault((outcome.summary.status, outcome.summary.error), []).append(outcome)
    return [line(same[0]) + (f" (so did {others(same[1:])})" if same[1:] else "") for same in reasons.values()]


def others(outcomes: Sequence[Outcome]) -> str:
    """Jobs by their numbers, in words."""
    return f"job{'s' if len(outcomes) > 1 else ''} {', '.join(str(o.num) for o in outcomes)}"


def line(outcome: Outcome) -> str:
    """A job that did not go well, and why, in a line."""
    error = (outcome.summary.error or "").split("\n")[0]
    return f"job {outcome.num} ({' '.join(outcome.overrides)}) {outcome.summary.status}: {error}"
