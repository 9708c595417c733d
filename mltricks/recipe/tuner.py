"""State shared by the steps of the recipe: the command's overrides, the numbered jobs, the budget, the gates.

The recipe is a deterministic program over outcomes: jobs are numbered in the order of their requests, and a
finished job is not run again. So the same command, typed again, continues where the recipe stopped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mltricks.process.atomic import write_atomically
from mltricks.recipe.budget import Budget
from mltricks.recipe.floor import Floor
from mltricks.recipe.gate import Gate, GateFailed
from mltricks.summary import json_safe
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.runner import Sweep

Changes = dict[str, str]
"""The values of overrides, as text, by key."""
ENDED = ("completed", "stopped_early", "pruned")


@dataclass
class Tuner:
    """The state of a recipe.

    Args:
        sweep: launches jobs.
        base: the overrides of the command.
        cfg: the composed configuration, as nested dicts.
        settings: the settings of ``conf/hydra/sweeper/recipe.yaml``.

    Attributes:
        budget: the budget; ``None`` until the first step has counted the batches.
        outcomes: the outcomes of all jobs so far.
        gates: the gates of all steps so far.
        best: the record of the best configuration; ``None`` until the final run.
        floor: scores of trivial predictors; known before the first step.
    """

    sweep: Sweep
    base: list[str]
    cfg: dict[str, Any]
    settings: dict[str, Any]
    budget: Budget | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    best: dict[str, Any] | None = None
    floor: Floor | None = None

    @property
    def ground(self) -> Floor:
        """Scores of trivial predictors."""
        assert self.floor is not None, "it is measured before the first step"
        return self.floor

    @property
    def money(self) -> Budget:
        """The budget, once the first step has counted the batches."""
        assert self.budget is not None, "the first step makes it"
        return self.budget

    def probe(self, job: str, changes: Changes) -> tuple[Outcome, dict[str, Any]]:
        """Run a measuring job; return its outcome and its result file.

        Raises:
            GateFailed: the job failed, or wrote no result.
        """
        outcome = self._run([{"job": job, **changes}])[0]
        path = outcome.folder / f"{job}.json"
        if outcome.summary.status not in ENDED or not path.is_file():
            raise GateFailed(f"job {outcome.num} (job={job}) failed: {outcome.summary.error or 'it wrote no result'}")
        return outcome, json.loads(path.read_text())

    def train(self, trials: Sequence[Changes], updates: int) -> list[Outcome]:
        """Train each trial for ``updates`` updates at a constant rate, in one launch, and charge the budget.

        Args:
            trials: the changed overrides of each trial.
            updates: per trial; at most what the budget has left.
        """
        length = self.length(updates)
        outcomes = self._run([{**constant(), **length, **trial} for trial in trials])
        for outcome in outcomes:
            self.money.spend(min(outcome.summary.steps, updates))
        return outcomes

    def final(self, changes: Changes, updates: int) -> Outcome:
        """Train once, with the schedule in ``changes`` or the configured one."""
        outcome = self._run([{**self.length(updates), **changes}])[0]
        self.money.spend(min(outcome.summary.steps, updates))
        return outcome

    def length(self, updates: int) -> Changes:
        """The overrides for a run of this many updates; in epochs if they fill whole epochs.

        Args:
            updates: >= 1.
        """
        steps = self.money.steps_per_epoch
        epochs = {"epochs": str(-(-updates // steps))}
        if updates % steps:
            return {**epochs, "max_steps": str(updates)}
        return epochs if self.cfg["max_steps"] is None else {**epochs, "max_steps": "null"}

    def _run(self, jobs: Sequence[Changes]) -> list[Outcome]:
        found = self.sweep.run([changed(self.base, job) for job in jobs], len(self.outcomes))
        self.outcomes += found
        return found

    def close(self, gate: Gate, jobs: Iterable[Outcome], spent_before: int) -> Gate:
        """Record a gate and print it.

        Args:
            gate: the result of the step.
            jobs: the jobs of the step.
            spent_before: samples spent before the step.

        Raises:
            GateFailed: the gate failed, and ``force`` is not set.
        """
        jobs = list(jobs)
        gate.jobs = [outcome.num for outcome in jobs]
        gate.seconds = round(sum(outcome.summary.seconds for outcome in jobs), 3)
        gate.epochs = round((self.money.spent - spent_before) / self.money.epoch, 4)
        self.gates.append(gate)
        stop = gate.verdict == "fail" and not self.settings["force"]
        self.write("stopped" if stop else "running")
        print(*gate.lines(), sep="\n", flush=True)
        if stop:
            raise GateFailed(
                " ".join(
                    filter(None, [f"step {gate.label} ({gate.name}) failed: {gate.reason}", gate.more, gate.advice])
                )
                + " force=true continues nevertheless."
            )
        return gate

    def write(self, status: str) -> None:
        """Write ``recipe.json``."""
        content = {
            "status": status,
            "budget_epochs": self.settings["budget_epochs"],
            "spent_epochs": self.budget.spent_epochs if self.budget else 0.0,
            "seconds": round(sum(outcome.summary.seconds for outcome in self.outcomes), 3),
            "gates": [gate.record() for gate in self.gates],
            "best": self.best,
        }
        text = json.dumps(json_safe(content), indent=2) + "\n"
        write_atomically(self.folder / "recipe.json", lambda partial: partial.write_text(text))

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.sweep.folder


def constant() -> Changes:
    """Overrides for a constant learning rate."""
    return {"scheduler": "constant"}


def changed(base: Sequence[str], changes: Changes) -> list[str]:
    """The overrides of a command, with those of the same key replaced.

    If another schedule is chosen, the settings of the command's schedule are left out.

    >>> changed(["optim=sgd", "optim.lr=0.1", "scheduler=cosine", "scheduler.final=0.1"], {"scheduler": "constant"})
    ['optim=sgd', 'optim.lr=0.1', 'scheduler=constant']
    """
    kept = []
    for text in base:
        key = text.partition("=")[0].lstrip("+~")
        if key in changes or ("scheduler" in changes and key.startswith("scheduler.")):
            continue
        kept.append(text)
    return kept + [f"{key}={value}" for key, value in changes.items()]


def better(a: Outcome, b: Outcome | None) -> bool:
    """Whether a completed trial is better than another."""
    if not is_finite(a):
        return False
    if b is None or not is_finite(b):
        return True
    sign = 1.0 if a.summary.objective.get("direction") == "maximize" else -1.0
    return sign * (a.summary.objective["value"] - b.summary.objective["value"]) > 0


def best_of(outcomes: Iterable[Outcome]) -> Outcome | None:
    """The best completed trial, the first of equals; ``None`` if there is none."""
    found: Outcome | None = None
    for outcome in outcomes:
        if better(outcome, found):
            found = outcome
    return found


def is_finite(outcome: Outcome) -> bool:
    """Whether a trial completed with a finite objective."""
    value = outcome.summary.objective.get("value")
    return outcome.summary.status in ENDED and isinstance(value, int | float) and math.isfinite(value)
