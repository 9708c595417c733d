"""What the outcome of a job means for its trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mltricks.study.measures import Goals
from mltricks.summary import Summary


@dataclass(frozen=True)
class Verdict:
    """What a trial is told.

    Attributes:
        state: ``COMPLETE``, ``PRUNED`` or ``FAIL``, or ``INTERRUPTED`` for one that is to be redone.
        values: of the goals; empty unless complete.
    """

    state: str
    values: tuple[float, ...] = ()


def verdict_of(summary: Summary, goals: Goals) -> Verdict:
    """The verdict on one run.

    A run that diverged or found too little memory is told as pruned: searchers do not see failed trials, and would go
    on proposing what cannot work.
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
    """Write a verdict into the study, once."""
    import optuna

    state = optuna.trial.TrialState[verdict.state]
    study.tell(number, values=list(verdict.values) or None, state=state, skip_if_finished=True)


def mean(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The mean of each column.

    >>> mean([[1.0, 4.0], [3.0, 0.0]])
    (2.0, 2.0)
    """
    return tuple(math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
