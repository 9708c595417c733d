"""Importance: the share of the variance of the jobs' results that is due to each swept key.

Source: Breiman 2001, Machine Learning 45(1), permutation importance; half of it is the total effect of Sobol',
Gregorutti et al. 2017, Statistics and Computing 27(3).
Deviation: computed on held-out jobs, so that a key of pure noise gets about zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mltricks.report.collect import Collected
from mltricks.report.scales import Axis

FOLDS, REPEATS, TREES = 4, 4, 48
LEAST = 20
"""With fewer jobs, the importance is mostly noise and not worth the slow import of scikit-learn."""


@dataclass
class Importance:
    """The result of a random forest.

    Attributes:
        shares: the share of the variance of held-out jobs due to a key, alone and with others, the largest first;
            negative values are noise and count as zero.
        explained: the share of the variance of held-out jobs that the forest predicts, at most 1.
        n: number of jobs.
        note: a caveat.
    """

    shares: list[tuple[str, float]]
    explained: float
    n: int
    note: str


def importance(sweep: Collected, axes: list[Axis]) -> Importance | None:
    """The importance of every key, or ``None`` with too few jobs."""
    rows = [i for i, row in enumerate(sweep.rows) if row.counts]
    varying = [axis for axis in axes if len({axis.numbers[i] for i in rows}) > 1]
    if len(rows) < LEAST or not varying:
        return None
    import numpy as np

    y = np.array([sweep.rows[i].value for i in rows], dtype=float)
    if float(y.std()) == 0.0:
        return None
    columns = [column(axis, rows) for axis in varying]
    explained, losses = held_out(columns, y)
    shares = sorted(zip((axis.key for axis in varying), losses, strict=True), key=lambda share: -share[1])
    return Importance(shares, explained, len(rows), note_of(explained))


def column(axis: Axis, rows: list[int]) -> Any:
    """The values of a key as features, (jobs, features): number and whether it is missing, or one-hot categories."""
    import numpy as np

    values = [axis.numbers[i] for i in rows]
    if axis.kind == "category":
        return np.array([[float(v == k) for k in range(len(axis.names))] for v in values])
    known = [math.log10(v) if axis.log else v for v in values if v is not None]
    middle = sum(known) / len(known)
    return np.array([[middle if v is None else math.log10(v) if axis.log else v, float(v is None)] for v in values])


def held_out(columns: list[Any], y: Any) -> tuple[float, list[float]]:
    """The predicted share of the variance on held-out jobs, and how much of it shuffling each key loses."""
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor

    generator = np.random.default_rng(0)
    x = np.hstack(columns)
    ends = np.cumsum([c.shape[1] for c in columns])
    spans = [slice(end - c.shape[1], end) for end, c in zip(ends, columns, strict=True)]
    errors, shuffled, total = 0.0, np.zeros(len(columns)), 0.0
    for test in np.array_split(generator.permutation(len(y)), min(FOLDS, len(y))):
        train = np.setdiff1d(np.arange(len(y)), test)
        forest = RandomForestRegressor(TREES, random_state=0, min_samples_leaf=1).fit(x[train], y[train])
        # predict all shuffled copies in one call: the cost is per call rather than per row
        copies = [x[test]]
        for span in spans:
            for _ in range(REPEATS):
                copy = x[test].copy()
                copy[:, span] = x[generator.choice(train, len(test))][:, span]
                copies.append(copy)
        wrong = (forest.predict(np.vstack(copies)).reshape(len(copies), -1) - y[test]) ** 2
        errors += float(wrong[0].sum())
        shuffled += wrong[1:].sum(1).reshape(len(columns), REPEATS).mean(1)
        total += float(((y[test] - y[train].mean()) ** 2).sum())
    return 1 - errors / total, [max(0.0, float(v)) for v in (shuffled - errors) / (2 * total)]


def note_of(explained: float) -> str:
    """A caveat if the forest predicts little; else empty."""
    return "The swept keys hardly predict the objective: the order may be chance." if explained < 0.1 else ""
