"""The verdict on a trial: its state in the study, derived from the outcome of its job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mltricks.study.measures import Goals
from mltricks.summary import Summary


@dataclass(frozen=True)
class Verdict:
    """The result reported to Optuna for one trial.

    Attributes:
        state: ``COMPLETE``, ``PRUNED`` or ``FAIL``; or ``INTERRUPTED``, where the trial must run again.
        values: the values of the goals; empty unless complete.
    """

    state: str
    values: tuple[float, ...] = ()


def verdict_of(summary: Summary, goals: Goals) -> Verdict:
    """Return the verdict on one run.

    A run that diverged or ran out of memory counts as pruned, not as failed: searchers ignore failed trials, and would
    propose the same region again.
    """
    if summary.status in ("completed", "stopped_early"):
        values = goals.values(summary)
        return Verdict("COMPLETE", tuple(values)) if values is not None else Verdict("PRUNED")
    if summary.status in ("pruned", "diverged"):
        return Verdict("PRUNED")
    if summary.status == "failed":
        return Verdict("PRUNED" if summary.out_of_memory else "FAIL")
    return Verdict("INTERRUPTED")


def tell(study: Any, number: int, verdict: Verdict) -> None:
    """Write a verdict to the study, unless the trial already has one."""
    import optuna

    state = optuna.trial.TrialState[verdict.state]
    study.tell(number, values=list(verdict.values) or None, state=state, skip_if_finished=True)


def mean(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the mean of each column.

    >>> mean([[1.0, 4.0], [3.0, 0.0]])
    (2.0, 2.0)
    """
    return tuple(math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
