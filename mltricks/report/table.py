"""``sweep.csv``: a row per job, in the format of RFC 4180."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from mltricks.report.collect import SPLITS, Collected, Row
from mltricks.report.leaderboard import Group, groups
from mltricks.report.values import pairs

BEFORE = ("job", "status", "objective")
AFTER = ("seed", "seconds", "epochs", "num_params", "mean", "low", "high", "interval_of", "n", "error")
"""``mean`` to ``n`` are those of the job's configuration."""


def table(sweep: Collected) -> str:
    """The jobs in order; a swept key with the name of another column is called ``config.KEY``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    metrics = [(split, name) for split in SPLITS for name in names_of(sweep, split)]
    keys = [key for key in sweep.keys if key != "seed"]
    columns = [f"{split}/{name}" for split, name in metrics]
    taken = {*BEFORE, *AFTER, *columns}
    writer.writerow([*BEFORE, *(f"config.{key}" if key in taken else key for key in keys), *columns, *AFTER])
    group_of = {i: group for group in groups(sweep) for i in group.rows}
    for i, row in enumerate(sweep.rows):
        found = [number(row.metrics.get(split, {}).get(name)) for split, name in metrics]
        values = [row.values[key] for key in keys]
        writer.writerow([row.name, row.status, number(row.value), *values, *found, *after(row, group_of[i])])
    return text.getvalue()


def names_of(sweep: Collected, split: str) -> list[str]:
    """The metrics of a split that any job has, in order of first occurrence."""
    return list(dict.fromkeys(name for row in sweep.rows for name in row.metrics.get(split, {})))


def after(row: Row, group: Group) -> list[Any]:
    """The columns of ``AFTER``."""
    score = group.score
    ends = [number(score.low), number(score.high)] if score else ["", ""]
    params = "" if row.num_params is None else row.num_params
    mean = number(score.mean) if score else ""
    seed = row.values.get("seed", pairs(row.overrides).get("seed", ""))
    return [seed, f"{row.seconds:.3f}", row.epochs, params, mean, *ends, group.interval_of, group.n, row.error]


def number(value: float | None) -> str:
    """All digits of a number; empty if it is unknown or infinite."""
    return "" if value is None or not math.isfinite(value) else repr(value)
