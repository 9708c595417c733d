"""Replicates: run each trial on several seeds, and drop clearly worse trials before their last seed.

All trials of a batch run one seed after another. From the second seed on, each trial is compared with the best one on
the seeds that both have. A trial is dropped, with the mean so far, if the paired t-interval of the difference lies
wholly on the worse side. Testing after every seed drops good trials more often than the level of a single test says.
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
"""Trial attribute: the number of seeds, the standard deviation over them, and the value for each seed."""
Launch = Callable[[list[tuple[int, list[str]]]], list[Summary]]
"""Runs numbered jobs and returns their summaries, in order."""
Values = Mapping[int, Sequence[float]]
"""The values of the goals by seed."""


@dataclass
class Replicates:
    """Runs trials on several seeds.

    Attributes:
        num: seeds for each trial; with 1, jobs keep their seed and have the numbers of their trials.
        first_seed: the seed of the run; the others are the integers after it.
        level: confidence at which a trial is dropped.
        goals: the goals of the study.
    """

    num: int
    first_seed: int
    level: float
    goals: Goals

    def run(self, asked: Sequence[Asked], launch: Launch, best: Values) -> Iterator[tuple[Asked, Verdict]]:
        """Run the trials and yield the verdict on each as soon as it is known.

        Args:
            asked: the trials; seeds that already have values do not run again.
            launch: runs jobs.
            best: values of the best trial so far; empty if there is none.
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
        """The number of the job for replicate ``r`` of a trial; it is also the name of the job's folder."""
        return trial * self.num + r

    def job(self, asked: Asked, seed: int) -> list[str]:
        """The overrides of a trial's job with this seed."""
        if self.num == 1:
            return asked.overrides
        return [*(o for o in asked.overrides if not o.startswith("seed=")), f"seed={seed}"]

    def dropped(self, alive: Sequence[Asked], best: Values) -> list[Asked]:
        """The trials that are clearly worse than the best on the seeds they share; none if there are several goals."""
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
        """Read a trial's folders: return the values by seed, and the verdict, or ``None`` where seeds are missing."""
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
        """Copy the values of the seeds that were finished in the trials that this one repeats."""
        before = asked.trial.user_attrs.get(RETRY_OF) if self.num > 1 else None
        while before is not None:
            asked.values = self.known(before, folder)[0] | asked.values
            before = study.get_trials(deepcopy=False)[before].user_attrs.get(RETRY_OF)

    def describe(self, values: Values) -> dict[str, Any]:
        """The number of seeds of a trial, their standard deviation and their values, for the trial's attributes."""
        columns = list(zip(*values.values(), strict=True))
        spread = [deviation(column) if len(column) > 1 else None for column in columns]
        single = len(columns) == 1
        return {
            "n": len(values),
            "std": spread[0] if single else spread,
            "values": {str(seed): row[0] if single else list(row) for seed, row in sorted(values.items())},
        }
