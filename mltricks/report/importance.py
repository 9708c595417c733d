"""Importance: the share of the variance of the jobs' results that is due to each swept key alone.

Source: Hutter, Hoos, Leyton-Brown 2014, ICML, functional ANOVA of a random forest, as Optuna implements it.
Deviation: the mean over several samples of the jobs, drawn with replacement, whose spread is the error (bootstrap).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from mltricks.report.collect import Collected
from mltricks.report.scales import Axis

LEAST = 20
"""With fewer jobs, the importance is mostly noise and not worth the slow import of Optuna and scikit-learn."""
SAMPLES, TREES = 8, 16
LARGEST = 200
"""Jobs in a sample at most: the time of a functional ANOVA grows with the square of their number."""
WEAK = 0.1
"""Share of the variance below which a forest that explains it says little."""


class Share(NamedTuple):
    """The share of the variance due to a key, in [0, 1], and the standard error of this estimate."""

    key: str
    value: float
    error: float


@dataclass
class Importance:
    """The importance of every key.

    Attributes:
        shares: the largest first.
        explained: the share of the variance that a random forest predicts of jobs it has not seen, at most 1.
        n: number of jobs.
        note: a caveat.
    """

    shares: list[Share]
    explained: float
    n: int
    note: str


def importance(sweep: Collected, axes: Sequence[Axis]) -> Importance | str:
    """The importance of every key, or the reason why there is none."""
    rows = [i for i, row in enumerate(sweep.rows) if row.counts]
    varying = [axis for axis in axes if len({axis.numbers[i] for i in rows}) > 1]
    values = [sweep.rows[i].value for i in rows]
    if len(rows) < LEAST:
        return f"{len(rows)} jobs have a result. With fewer than {LEAST} the importance would be chance."
    if not varying:
        return "No key has several values among the jobs with a result."
    if len(set(values)) == 1:
        return f"All {len(rows)} jobs have the same result, so no key made a difference."
    y = [float(value) for value in values if value is not None]
    columns = {axis.key: filled(axis, rows) for axis in varying}
    found = bootstrap(columns, {axis.key: axis for axis in varying}, y)
    if len(found[varying[0].key]) < 2:
        return f"Almost all of the {len(rows)} jobs have the same result: too few differ to say which key matters."
    shares = [Share(key, statistics.fmean(v), statistics.stdev(v)) for key, v in found.items()]
    explained = predicted(columns, y)
    return Importance(sorted(shares, key=lambda s: -s.value), explained, len(rows), note_of(explained))


def filled(axis: Axis, rows: Sequence[int]) -> list[float]:
    """The values of a key; the middle of the others where a job has none."""
    values = [axis.numbers[i] for i in rows]
    middle = statistics.median_low([v for v in values if v is not None])
    return [middle if v is None else v for v in values]


def bootstrap(columns: dict[str, list[float]], axes: dict[str, Axis], y: Sequence[float]) -> dict[str, list[float]]:
    """The share of every key in every sample of the jobs."""
    import numpy as np
    from optuna.importance import FanovaImportanceEvaluator

    generator = np.random.default_rng(0)
    found: dict[str, list[float]] = {key: [] for key in columns}
    for seed in range(SAMPLES):
        drawn = generator.integers(len(y), size=min(len(y), LARGEST)).tolist()
        if len({y[i] for i in drawn}) == 1:
            continue
        with quiet() as optuna:
            study = optuna.create_study()
            study.add_trials(trials(optuna, columns, axes, y, drawn))
            shares = FanovaImportanceEvaluator(n_trees=TREES, seed=seed).evaluate(study)
        for key in columns:
            found[key].append(max(0.0, float(shares.get(key, 0.0))))
    return found


def trials(
    optuna: Any, columns: dict[str, list[float]], axes: dict[str, Axis], y: Sequence[float], drawn: list[int]
) -> list[Any]:
    """The drawn jobs as trials of a study."""
    ranges = {key: distribution(optuna, axes[key], values) for key, values in columns.items()}
    return [
        optuna.trial.create_trial(
            params={key: int(v[i]) if axes[key].kind == "category" else v[i] for key, v in columns.items()},
            distributions=ranges,
            value=y[i],
        )
        for i in drawn
    ]


def distribution(optuna: Any, axis: Axis, values: Sequence[float]) -> Any:
    """The range of a key as Optuna's distribution."""
    if axis.kind == "category":
        return optuna.distributions.CategoricalDistribution(list(range(len(axis.names))))
    return optuna.distributions.FloatDistribution(min(values), max(values), log=axis.log)


@contextmanager
def quiet() -> Iterator[Any]:
    """Optuna, without its messages about new studies."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(level)


def predicted(columns: dict[str, list[float]], y: Sequence[float]) -> float:
    """The share of the variance that a forest predicts of the jobs that each of its trees has not seen."""
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(100, oob_score=True, random_state=0).fit(np.array(list(columns.values())).T, y)
    score = float(forest.oob_score_)
    return score if math.isfinite(score) else 0.0


def note_of(explained: float) -> str:
    """A caveat if the forest predicts little; else empty."""
    return "The swept keys hardly predict the objective: the order may be chance." if explained < WEAK else ""
