"""Seeds as replicates of one trial: seed by seed for all trials of a batch, those that are clearly worse dropped.

After each seed from the second on, a trial is compared with the best on the seeds that both have. Where the paired
t-interval of the difference lies wholly on the worse side, the trial is dropped, with the mean it has. The intervals
are looked at after every seed, so that a good trial is dropped more often than the level of one look says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltricks.study.measures import Goals
from mltricks.study.queue import RETRY_OF, Asked
from mltricks.study.verdict import Verdict, mean, verdict_of
from mltricks.summary import Summary, read_summary
from mltricks.sweep.outcome import FINAL
from mltricks.sweep.statistics import deviation, paired_interval

REPLICATES = "replicates"
"""User attribute: how many seeds a trial has had, the standard deviation and the value of each."""
Launch = Callable[[list[tuple[int, list[str]]]], list[Summary]]
"""From numbered jobs to their summaries, in order."""
Values = Mapping[int, Sequence[float]]
"""From seed to the values of the goals."""


@dataclass
class Replicates:
    """Runs trials on several seeds.

    Attributes:
        num: seeds for each trial; 1: jobs are left as they are, and their numbers are those of the trials.
        first_seed: the run's own; the others follow it.
        level: confidence at which a trial is dropped.
        goals: of the study.
    """

    num: int
    first_seed: int
    level: float
    goals: Goals

    def run(self, asked: Sequence[Asked], launch: Launch, best: Values) -> Iterator[tuple[Asked, Verdict]]:
        """The verdict on each trial, as soon as there is one.

        Args:
            asked: the trials; values that they have already are not computed again.
            launch: runs jobs.
            best: values of the best trial so far; empty where there is none.
        """
        alive = list(asked)
        for r in range(self.num):
            seed = self.first_seed + r
            wanting = [a for a in alive if seed not in a.values]
            jobs = [(self.job_number(a.number, r), self.job(a, seed)) for a in wanting]
            summaries = launch(jobs) if jobs else []
            for a, summary in zip(wanting, summaries, strict=True):
                verdict = verdict_of(summary, self.goals)
                if verdict.state == "COMPLETE":
                    a.values[seed] = list(verdict.values)
                else:
                    alive.remove(a)
                    yield a, verdict
            for a in self.dropped(alive, best) if r + 1 < self.num else []:
                alive.remove(a)
                yield a, Verdict("PRUNED", mean(list(a.values.values())))
        for a in alive:
            yield a, Verdict("COMPLETE", mean(list(a.values.values())))

    def job_number(self, trial: int, r: int) -> int:
        """The number of a job, which is the name of its folder."""
        return trial * self.num + r

    def job(self, asked: Asked, seed: int) -> list[str]:
        """The overrides of a trial's job on a seed."""
        if self.num == 1:
            return asked.overrides
        return [*(o for o in asked.overrides if not o.startswith("seed=")), f"seed={seed}"]

    def dropped(self, alive: Sequence[Asked], best: Values) -> list[Asked]:
        """The trials that are worse than the best on the seeds they share; of several goals none is."""
        if len(self.goals.names) > 1 or not alive:
            return []
        sign = 1.0 if self.goals.directions[0] == "maximize" else -1.0
        rivals: list[Values] = [a.values for a in alive] + ([best] if best else [])
        leader = max(rivals, key=lambda values: sign * mean(list(values.values()))[0])
        return [a for a in alive if a.values is not leader and self._worse(a.values, leader, sign)]

    def _worse(self, values: Values, leader: Values, sign: float) -> bool:
        seeds = sorted(values.keys() & leader.keys())
        if len(seeds) < 2:
            return False
        mine, theirs = ([sign * found[seed][0] for seed in seeds] for found in (values, leader))
        found = paired_interval(mine, theirs, self.level)
        return found.excludes_zero and found.high < 0

    def known(self, trial: int, folder: Path) -> tuple[dict[int, list[float]], Verdict | None]:
        """What is in the folders of a trial: the values by seed, and the verdict where they settle it."""
        values: dict[int, list[float]] = {}
        for r in range(self.num):
            summary = read_summary(folder / str(self.job_number(trial, r)) / "summary.json")
            if summary is None or summary.status not in FINAL:
                continue
            verdict = verdict_of(summary, self.goals)
            if verdict.state != "COMPLETE":
                return values, verdict
            values[self.first_seed + r] = list(verdict.values)
        whole = len(values) == self.num
        return values, Verdict("COMPLETE", mean(list(values.values()))) if whole else None

    def inherit(self, asked: Asked, study: Any, folder: Path) -> None:
        """Take over what the trials that this one redoes have left, seed for seed."""
        before = asked.trial.user_attrs.get(RETRY_OF) if self.num > 1 else None
        while before is not None:
            asked.values = self.known(before, folder)[0] | asked.values
            before = study.get_trials(deepcopy=False)[before].user_attrs.get(RETRY_OF)

    def describe(self, values: Values) -> dict[str, Any]:
        """The spread of a trial, for its user attributes."""
        columns = list(zip(*values.values(), strict=True))
        spread = [deviation(column) if len(column) > 1 else None for column in columns]
        single = len(columns) == 1
        return {
            "n": len(values),
            "std": spread[0] if single else spread,
            "values": {str(seed): row[0] if single else list(row) for seed, row in sorted(values.items())},
        }
