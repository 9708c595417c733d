"""Names of configurations and jobs in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mltricks.figures.base import shorten
from mltricks.report.collect import Collected, Row
from mltricks.report.leaderboard import Group
from mltricks.report.values import typed

LONGEST = 20
"""Letters of a value in a legend."""
LONGEST_LABEL = 44
"""Letters of a configuration in a legend."""


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Every key by its last part, or whole where two have the same.

    >>> short_keys(["optim.lr", "model.width", "a.p", "b.p"])
    {'optim.lr': 'lr', 'model.width': 'width', 'a.p': 'a.p', 'b.p': 'b.p'}
    """
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def brief(value: str) -> str:
    """A value for a legend: sampled numbers with four digits, long texts cut.

    >>> brief("0.00123456789"), brief("mixup+ema"), brief("")
    ('0.001235', 'mixup+ema', '-')
    """
    number = typed(value)
    if isinstance(number, float) and len(value) > 8:
        return f"{number:.4g}"
    return shorten(value, LONGEST) or "-"


def named(values: Mapping[str, str]) -> str:
    """Swept values as one text.

    >>> named({"optim.lr": "0.1", "model.width": "8"})
    'lr 0.1, width 8'
    """
    names = short_keys(list(values))
    return ", ".join(f"{names[key]} {brief(value)}" for key, value in values.items()) or "the only configuration"


def label(group: Group, place: int) -> str:
    """A configuration in a legend, with its place in the leaderboard from 0."""
    return shorten(f"{group.rank or f'({place + 1})'}: {named(group.values)}", LONGEST_LABEL)


def distinct(labels: Sequence[str]) -> list[str]:
    """The labels; equal ones, which were cut to the same length, with their places: a legend has each name once.

    >>> distinct(["1: a…", "1: a…", "3: b"])
    ['1: a… (row 1)', '1: a… (row 2)', '3: b']
    """
    return [f"{name} (row {i + 1})" if labels.count(name) > 1 else name for i, name in enumerate(labels)]


def of_job(sweep: Collected, row: Row) -> str:
    """What the pointer shows of a job."""
    value = "no result" if row.value is None else f"{sweep.objective} {row.value:.4g}"
    return f"job {row.name}: {named(row.values)}; {value}, {row.status.replace('_', ' ')}"
