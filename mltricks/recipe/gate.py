"""A gate: the result of a step of the recipe, and whether the recipe may continue."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import Any

from mltricks.observers.formats import WIDTH

MARKS = {"pass": "pass", "fail": "FAIL", "skipped": "skip"}


class GateFailed(ValueError):
    """A step of the recipe found a problem that makes further tuning useless."""


@dataclass
class Gate:
    """The record of a step.

    Attributes:
        step: number of the step, 1 to 7.
        name: name of the step.
        verdict: ``pass``, ``fail`` or ``skipped``.
        reason: a sentence with the evidence for the verdict.
        evidence: the numbers behind the verdict, by name.
        advice: what to do; empty if there is nothing to do.
        jobs: numbers of the step's jobs.
        epochs: training budget used, in passes over the training split.
        seconds: time spent in its jobs.
        curve: ``{"x": [...], "y": [...], "x_label", "y_label"}`` for a small chart.
    """

    step: int
    name: str
    verdict: str
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)
    advice: str = ""
    jobs: list[int] = field(default_factory=list)
    epochs: float = 0.0
    seconds: float = 0.0
    curve: dict[str, Any] | None = None

    def record(self) -> dict[str, Any]:
        """The gate as an entry of ``recipe.json``."""
        content = asdict(self)
        if self.curve is None:
            del content["curve"]
        return content

    def lines(self, width: int = WIDTH) -> list[str]:
        """The gate as text for the terminal."""
        first = f"{self.step} {self.name:<18} {MARKS[self.verdict]}  "
        texts = [(first, self.reason), (" " * len(first), self.advice)]
        return [
            line
            for start, text in texts
            if text
            for line in wrap(text, width, initial_indent=start, subsequent_indent=" " * len(first))
        ]
