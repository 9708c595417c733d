"""Swept keys as axes: numbers on a linear or a logarithmic scale, or categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mltricks.report.collect import Collected
from mltricks.report.limits import are_geometric
from mltricks.report.values import typed
from mltricks.sweep.measured import is_repeat

DECADES = 1.5
"""The scale is logarithmic if positive numbers span more powers of ten than this."""


@dataclass
class Axis:
    """A swept key.

    Attributes:
        key: name of the key.
        kind: ``number`` or ``category``.
        log: whether the axis is logarithmic.
        numbers: value of every job, ``None`` if it has none; for categories, their indices.
        names: names of the categories, in order.
        seed: whether the key is a seed.
        scale_known: whether the command said which scale it is; else it follows from the values.
    """

    key: str
    kind: str
    log: bool
    numbers: list[float | None]
    names: list[str] = field(default_factory=list)
    seed: bool = False
    scale_known: bool = False


def axes(sweep: Collected) -> list[Axis]:
    """An axis for every swept key."""
    found = [make_axis(key, [row.values[key] for row in sweep.rows]) for key in sweep.keys]
    for axis in found:
        said = sweep.origin.log_scales.get(axis.key)
        if axis.kind == "number" and said is not None and all(n is None or n > 0 for n in axis.numbers):
            axis.log, axis.scale_known = said, True
    return found


def make_axis(key: str, values: Sequence[str]) -> Axis:
    """The axis for the values: categories if any is not a number."""
    found = [typed(value) for value in values]
    if all(isinstance(v, int | float) and math.isfinite(v) for v, t in zip(found, values, strict=True) if t != ""):
        numbers = [float(v) if not isinstance(v, str) else None for v in found]
        return Axis(key, "number", is_log([n for n in numbers if n is not None]), numbers, seed=is_repeat(key))
    names = list(dict.fromkeys(values))
    return Axis(key, "category", False, [float(names.index(v)) for v in values], names, is_repeat(key))


def is_log(numbers: Sequence[float]) -> bool:
    """Whether a logarithmic axis suits the numbers: they span decades, or have equal ratios.

    >>> [is_log(n) for n in ([1e-4, 1e-2], [16, 32, 64], [1, 2, 3], [0, 10, 1000], [])]
    [True, True, False, False, False]
    """
    tried = sorted(set(numbers))
    if not tried or tried[0] <= 0:
        return False
    return are_geometric(tried) or math.log10(tried[-1] / tried[0]) >= DECADES
