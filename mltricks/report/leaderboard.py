"""Groups jobs to configurations: jobs that differ only in their seed or fold are one configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltricks.intervals import wilson
from mltricks.report.collect import Collected, Row
from mltricks.report.values import pairs
from mltricks.sweep.measured import is_measure, is_repeat, kind_of_repeats
from mltricks.sweep.statistics import Interval, mean_interval


@dataclass
class Group:
    """A configuration, with all its jobs.

    Attributes:
        values: values of the swept keys other than seeds and folds.
        rows: numbers of its jobs in the sweep's list.
        n: number of jobs; jobs with the same seed and fold count once.
        measured_on: data and metric of its score, if jobs differ in them; only equal ones are ranked together.
        score: mean and interval of the objective over the jobs that trained to their end; ``None`` without any.
        interval_of: what its interval covers: ``seeds``, ``folds`` or ``runs`` (both), or ``split`` for the validation
            samples; else empty.
        best, worst: best and worst objective of these jobs; ``None`` without any.
        partial: best objective of the interrupted or pruned jobs, if none trained to its end.
        seconds: training time of all jobs together.
        trivial: the objective of the constant prediction; ``None`` if unknown.
        rank: 1 for the best of those measured alike, equal for equal means; ``None`` if no job trained to its end.
    """

    values: dict[str, str]
    rows: list[int]
    n: int
    measured_on: str
    score: Interval | None
    best: float | None
    worst: float | None
    partial: float | None
    seconds: float
    trivial: float | None = None
    interval_of: str = ""
    rank: int | None = None


def groups(sweep: Collected) -> list[Group]:
    """The configurations, the best first, separate by data and metric; last those without a completed job."""
    members: dict[tuple[object, ...], list[int]] = {}
    for i, row in enumerate(sweep.rows):
        members.setdefault(identity(row), []).append(i)
    found = [make_group(sweep, rows) for rows in members.values()]

    measures = list(dict.fromkeys(group.measured_on for group in found))

    def place(group: Group) -> tuple[int, int, float]:
        value = group.score.mean if group.score else group.partial
        kind = 0 if group.score else 1 if value is not None else 2
        return kind, measures.index(group.measured_on), -sweep.sign * value if value is not None else 0.0

    found = sorted(found, key=place)
    for measure in measures:
        give_ranks([group for group in found if group.measured_on == measure])
    return found


def give_ranks(found: list[Group]) -> None:
    """Number the configurations, which are in order; those with the same mean get the same number."""
    for i, group in enumerate(found):
        if group.score:
            before = found[i - 1] if i else None
            tied = before is not None and before.score is not None and before.score.mean == group.score.mean
            group.rank = before.rank if tied and before is not None else i + 1


def best_group(found: list[Group]) -> Group | None:
    """The best configuration; ``None`` if there is none, or if not all scores were measured alike."""
    whole = [group for group in found if group.score]
    return whole[0] if len({group.measured_on for group in whole}) == 1 else None


def identity(row: Row) -> tuple[object, ...]:
    """The key of a configuration: equal for jobs that only repeat each other."""
    return tuple(sorted((k, v) for k, v in pairs(row.overrides).items() if not is_repeat(k)))


def different(rows: list[Row]) -> list[Row]:
    """One job per seed and fold: the others are repetitions of the same job, and no further evidence.

    It is the first one that trained to its end.
    """
    found: dict[tuple[tuple[str, str], ...], Row] = {}
    for row in rows:
        seeds = tuple(sorted((k, v) for k, v in row.values.items() if is_repeat(k)))
        if seeds not in found or (row.counts and not found[seeds].counts):
            found[seeds] = row
    return list(found.values())


def make_group(sweep: Collected, numbers: list[int]) -> Group:
    """One configuration from the numbers of its jobs."""
    all_rows = [sweep.rows[i] for i in numbers]
    rows = different(all_rows)
    measured = [f"{key}={rows[0].values[key]}" for key in sweep.keys if is_measure(key)]
    whole = [row.value for row in rows if row.counts and row.value is not None]
    part = [row.value for row in rows if row.value is not None]
    better = max if sweep.maximize else min
    worse = min if sweep.maximize else max
    score, interval_of = interval(rows)
    return Group(
        values={key: value for key, value in rows[0].values.items() if key in sweep.keys and not is_repeat(key)},
        rows=numbers,
        n=len(rows),
        measured_on=" ".join(measured),
        score=score,
        interval_of=interval_of,
        best=better(whole) if whole else None,
        worst=worse(whole) if whole else None,
        partial=better(part) if part and not whole else None,
        seconds=math.fsum(row.seconds for row in all_rows),
        trivial=next((row.trivial for row in rows if row.trivial is not None), None),
    )


def interval(rows: list[Row]) -> tuple[Interval | None, str]:
    """The mean over the runs that trained to their end, its interval, and what this covers.

    Several seeds or folds have Student's interval of the mean, within [0, 1] if the objective is a share. One run whose
    objective is a share of the validation samples has Wilson's: another split of this size would give other shares. It
    knows nothing of other seeds.
    """
    whole = [row for row in rows if row.counts and row.value is not None]
    values = [row.value for row in whole if row.value is not None]
    if len(values) == 1 and (n := whole[0].scored_on) and 0 <= values[0] <= 1:
        return Interval(values[0], *wilson(round(values[0] * n), n)), "split"
    if not values:
        return None, ""
    found = mean_interval(values)
    if len(values) > 1 and all(row.scored_on for row in whole):  # a mean of shares is a share
        found = found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))
    return found, kind_of_repeats(repeated(whole)) if len(values) > 1 else ""


def repeated(rows: list[Row]) -> list[str]:
    """The keys of seeds and folds in which jobs differ."""
    return [key for key in rows[0].values if is_repeat(key) and len({row.values[key] for row in rows}) > 1]
