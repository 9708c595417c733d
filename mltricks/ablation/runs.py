"""Runs the arms: one numbered job per arm and seed, each run once, and a search of the retuned settings per arm."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import fmean

from mltricks.ablation.arms import Arm
from mltricks.ablation.design import Design
from mltricks.ablation.effects import values
from mltricks.ablation.retune import Points
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.runner import Sweep


class ArmRuns:
    """Launches arms and remembers their outcomes.

    Args:
        sweep: launches jobs.
        design: the parsed command.
        points: gives the candidates of an arm, each a list of overrides; a single one is not searched.
        tuning_seeds: seeds of the search, none of the paired seeds, so that no arm is judged by a seed that tuned it.
    """

    def __init__(self, sweep: Sweep, design: Design, points: Points, tuning_seeds: Sequence[int]):
        self.sweep, self.design, self.points, self.tuning_seeds = sweep, design, points, tuning_seeds
        self.count = 0
        self.tuned: dict[Arm, list[str]] = {}
        self.searched: dict[Arm, list[Outcome]] = {}
        self.results: dict[Arm, dict[int, Outcome]] = {}

    def overrides(self, arm: Arm) -> list[str]:
        """The overrides of an arm with its tuned settings, without its seed."""
        return [*self.design.overrides(arm), *self.tuned.get(arm, [])]

    def tune(self, arms: Sequence[Arm]) -> None:
        """Tune the settings of all arms that have not been tuned, in one launch."""
        new = [arm for arm in arms if arm not in self.tuned]
        points = {arm: self.points(arm) for arm in new}
        pairs = [(arm, point) for arm in new for point in points[arm] if len(points[arm]) > 1]
        tried = list(itertools.product(pairs, self.tuning_seeds))
        jobs = [[*self.design.overrides(arm), *point, f"seed={seed}"] for (arm, point), seed in tried]
        outcomes = self._run(jobs)
        for arm in new:
            own = [(point, o) for ((of, point), _), o in zip(tried, outcomes, strict=True) if of == arm]
            self.searched[arm] = [o for _, o in own]
            self.tuned[arm] = list(best_point(own)) if own else []

    def measure(self, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
        """Run arms with seeds, in one launch; a finished job is not run again."""
        pairs = [(a, s) for a, s in itertools.product(arms, seeds) if s not in self.results.get(a, {})]
        jobs = [[*self.overrides(arm), f"seed={seed}"] for arm, seed in pairs]
        for (arm, seed), outcome in zip(pairs, self._run(jobs), strict=True):
            self.results.setdefault(arm, {})[seed] = outcome

    def _run(self, jobs: list[list[str]]) -> list[Outcome]:
        start, self.count = self.count, self.count + len(jobs)
        return self.sweep.run(jobs, start) if jobs else []


def best_point(tried: Sequence[tuple[Sequence[str], Outcome]]) -> Sequence[str]:
    """The point with the best mean objective; the first of equals. A point of which a run failed comes last.

    Args:
        tried: every run of every point, the runs of a point one after another.

    Raises:
        ValueError: no run of an arm completed.
    """
    scores: list[tuple[Sequence[str], list[float | None]]] = []
    for point, runs in itertools.groupby(tried, key=lambda entry: entry[0]):
        scores.append((point, [values({0: outcome}).get(0) for _, outcome in runs]))
    done = [outcome for _, outcome in tried if values({0: outcome})]
    if not done:
        first = tried[0][1]
        raise ValueError(
            f"none of the {len(scores)} points tried completed; {first.folder}: "
            f"{first.summary.error or first.summary.status}. Fix that, or leave the setting out of retune."
        )
    sign = 1 if done[0].summary.objective.get("direction") == "maximize" else -1

    def rank(entry: tuple[Sequence[str], list[float | None]]) -> tuple[int, float]:
        known = [sign * value for value in entry[1] if value is not None]
        return len(known), fmean(known) if known else 0.0

    return max(scores, key=rank)[0]
