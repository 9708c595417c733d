"""A gate: the result of a step of the recipe, and whether the recipe may continue."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import Any

from mltricks.observers.formats import WIDTH

MARKS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "skipped": "skip"}


class GateFailed(ValueError):
    """A step of the recipe found a problem that makes further tuning useless."""


@dataclass
class Gate:
    """The record of a step.

    Attributes:
        step: number of the step, 1 to 8.
        name: name of the step.
        verdict: ``pass``, ``warn``, ``fail`` or ``skipped``. A passed gate that has advice is a warning: the recipe
            continues, and there is something to do.
        reason: one sentence, the evidence for the verdict.
        evidence: the numbers behind the verdict, by name.
        advice: what to do; empty if there is nothing to do.
        more: further sentences; may be empty.
        round: number of the round of a step that is repeated, from 1; else 0.
        jobs: numbers of the step's jobs.
        epochs: training budget used, in passes over the training split.
        seconds: time spent in its jobs.
        chart: what a figure of the step shows (``mltricks/recipe/charts.py``); ``None`` if it has measured nothing.
    """

    step: int
    name: str
    verdict: str
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)
    advice: str = ""
    more: str = ""
    round: int = 0
    jobs: list[int] = field(default_factory=list)
    epochs: float = 0.0
    seconds: float = 0.0
    chart: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.verdict == "pass" and self.advice:
            self.verdict = "warn"

    @property
    def label(self) -> str:
        """The number of the step, and of its round.

        >>> Gate(7, "search again", "pass", "better.", round=2).label
        '7.2'
        """
        return f"{self.step}.{self.round}" if self.round else str(self.step)

    def record(self) -> dict[str, Any]:
        """The gate as an entry of ``recipe.json``."""
        return {"label": self.label, **asdict(self)}

    def lines(self, width: int = WIDTH) -> list[str]:
        """The gate as text for the terminal."""
        first = f"{self.label:<3} {self.name:<18} {MARKS[self.verdict]}  "
        texts = [(first, f"{self.reason} {self.more}"), (" " * len(first), self.advice)]
        return [
            line
            for start, text in texts
            if text.strip()
            for line in wrap(text, width, initial_indent=start, subsequent_indent=" " * len(first))
        ]
