"""Warns if the best value is at the edge of the range tried, and proposes the next range."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from mltricks.report.collect import Collected
from mltricks.report.files import read_yaml
from mltricks.report.leaderboard import Group
from mltricks.report.limits import limits_of
from mltricks.report.origin import LISTED
from mltricks.report.scales import Axis

EDGE = 0.1
"""The outer part of a range, on its own scale, that counts as its edge."""


@dataclass
class Edge:
    """A best value at the edge.

    Attributes:
        key: the swept key.
        side: ``low`` or ``high``.
        text: the warning.
        override: the next range to try, to paste.
    """

    key: str
    side: str
    text: str
    override: str


def edges(sweep: Collected, axes: list[Axis], best: Group | None, found: Sequence[Group] = ()) -> list[Edge]:
    """A warning for every number whose best value is in the outer tenth of the range tried, with the next range.

    Args:
        sweep: the sweep.
        axes: its swept keys.
        best: the best configuration.
        found: all configurations: where those that are tied for the best disagree, the best value is not known.
    """
    if best is None:
        return []
    tied = [best, *(group for group in found if group.rank == 1)]
    known = [axis for axis in axes if len({axis.numbers[group.rows[0]] for group in tied}) == 1]
    made = [edge_of(sweep, axis, best) for axis in known if axis.kind == "number" and not axis.seed]
    return [edge for edge in made if edge is not None]


def edge_of(sweep: Collected, axis: Axis, best: Group) -> Edge | None:
    """The warning for one key."""
    tried = sorted({n for n in axis.numbers if n is not None})
    value = axis.numbers[best.rows[0]]
    if value is None or len(tried) < 2 or tried[0] == tried[-1]:
        return None
    job = sweep.folder / sweep.rows[best.rows[0]].name
    limits = limits_of(axis.key, tried, read_yaml(job / "config.yaml"))
    log = axis.log if axis.scale_known else axis.log or (limits.log and tried[0] > 0)
    low, high, at = (scaled(v, log) for v in (tried[0], tried[-1], value))
    place = (at - low) / (high - low)
    side = "low" if place <= EDGE else "high"
    if EDGE < place < 1 - EDGE or value == (limits.low if side == "low" else limits.high):
        return None  # the limit of the setting is no edge of the search
    first, last = next_range(low, high, at, log)
    is_integer = limits.whole is not False and all(float(n).is_integer() for n in tried)
    ends = limits.clip(first, value, is_integer), limits.clip(last, value, is_integer)
    text = (
        f"{axis.key}: the best value, {shown(value)}, lies at the {'lower' if side == 'low' else 'upper'} edge of "
        f"{shown(tried[0])} to {shown(tried[-1])}. A better one may lie beyond."
    )
    return Edge(axis.key, side, text, override(sweep, axis.key, ends, len(tried), is_integer, log))


def next_range(low: float, high: float, at: float, log: bool) -> tuple[float, float]:
    """A range as wide as the one tried, with the best in its middle; its ends are in the key's unit."""
    half = (high - low) / 2
    first, last = at - half, at + half
    return (10**first, 10**last) if log else (first, last)


def override(sweep: Collected, key: str, ends: tuple[float, float], count: int, is_integer: bool, log: bool) -> str:
    """The next range in the syntax of the sweeper: values for a grid, an interval for a study."""
    low, high = ends
    if sweep.origin.sweeper in ("", *LISTED):
        count = min(max(count, 3), 7)
        steps = [scaled(low, log) + (scaled(high, log) - scaled(low, log)) * i / (count - 1) for i in range(count)]
        values = [10**s if log else s for s in steps]
        texts = [str(round(v)) if is_integer else shown(v) for v in values]
        return shlex.quote(f"{key}={','.join(dict.fromkeys(texts))}")
    inside = f"range({low:.0f},{high + 1:.0f})" if is_integer else f"interval({shown(low)},{shown(high)})"
    if log:
        inside = f"interval({low:.0f},{high:.0f})" if is_integer else inside
        inside = f"int({inside})" if is_integer else inside
        inside = f"tag(log,{inside})"
    return shlex.quote(f"{key}={inside}")


def scaled(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def shown(value: float) -> str:
    """Three significant digits, or as many as distinguish a value from the nearest whole number."""
    text = f"{value:.3g}"
    return text if value == round(value) or float(text) != round(value) else f"{value:.6g}"
