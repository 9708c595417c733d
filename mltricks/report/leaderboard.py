"""Jobs grouped to configurations: those that differ in nothing but their seed are one."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from mltricks.report.collect import Collected, Row
from mltricks.report.values import is_seed, pairs
from mltricks.sweep.statistics import Interval, mean_interval


@dataclass
class Group:
    """A configuration.

    Attributes:
        values: of the swept keys that are no seeds.
        rows: numbers of its jobs in the sweep's list.
        score: mean and interval of the objective over the jobs that had their whole training; ``None`` without any.
        best, worst: of these; ``None`` likewise.
        partial: the best of the jobs that were stopped on the way, where none had its whole training.
        seconds: of training, all jobs together.
    """

    values: dict[str, str]
    rows: list[int]
    score: Interval | None
    best: float | None
    worst: float | None
    partial: float | None
    seconds: float

    @property
    def n(self) -> int:
        """How many jobs it has."""
        return len(self.rows)


def groups(sweep: Collected) -> list[Group]:
    """The configurations, the best first; those without a whole training come last."""
    members: dict[tuple[object, ...], list[int]] = {}
    for i, row in enumerate(sweep.rows):
        members.setdefault(identity(row), []).append(i)
    found = [make_group(sweep, rows) for rows in members.values()]

    def rank(group: Group) -> tuple[int, float]:
        value = group.score.mean if group.score else group.partial
        return (0 if group.score else 1 if value is not None else 2, -sweep.sign * value if value is not None else 0.0)

    return sorted(found, key=rank)


def identity(row: Row) -> tuple[object, ...]:
    """What jobs have in common that only repeat each other."""
    return tuple(sorted((k, v) for k, v in pairs(row.overrides).items() if not is_seed(k)))


def make_group(sweep: Collected, numbers: list[int]) -> Group:
    """One configuration from the numbers of its jobs."""
    rows = [sweep.rows[i] for i in numbers]
    whole = [row.value for row in rows if row.counts and row.value is not None]
    part = [row.value for row in rows if row.value is not None]
    better = max if sweep.maximize else min
    worse = min if sweep.maximize else max
    return Group(
        values={key: value for key, value in rows[0].values.items() if key in sweep.keys and not is_seed(key)},
        rows=numbers,
        score=mean_interval(whole) if whole else None,
        best=better(whole) if whole else None,
        worst=worse(whole) if whole else None,
        partial=better(part) if part and not whole else None,
        seconds=math.fsum(row.seconds for row in rows),
    )


def best_command(sweep: Collected, found: list[Group]) -> str:
    """The best configuration as a command; without its seed where the mean over several was what won."""
    best = next((group for group in found if group.score), None)
    if best is None:
        return ""
    row = next(sweep.rows[i] for i in best.rows if sweep.rows[i].value == best.best)
    overrides = [o for o in row.overrides if best.n == 1 or not is_seed(o.partition("=")[0].lstrip("+"))]
    return shlex.join(["python", "-m", "mltricks", *overrides])
