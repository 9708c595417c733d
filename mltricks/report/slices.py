"""Whether the best lies at the edge of what was tried, and what to try next."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from mltricks.report.collect import Collected
from mltricks.report.leaderboard import Group
from mltricks.report.origin import LISTED
from mltricks.report.scales import Axis

EDGE = 0.1
"""The outer part of a range, on its own scale, that counts as its edge."""


@dataclass
class Edge:
    """A best value at the edge.

    Attributes:
        key: whose.
        side: ``low`` or ``high``.
        text: what to know.
        override: the next range to try, to be pasted.
    """

    key: str
    side: str
    text: str
    override: str


def edges(sweep: Collected, axes: list[Axis], best: Group | None) -> list[Edge]:
    """A warning for every number whose best value lies in the outer tenth of those tried, with the next range."""
    found = [
        edge_of(sweep, axis, best) for axis in axes if best is not None and axis.kind == "number" and not axis.seed
    ]
    return [edge for edge in found if edge is not None]


def edge_of(sweep: Collected, axis: Axis, best: Group | None) -> Edge | None:
    """The warning for one key."""
    tried = sorted({n for n in axis.numbers if n is not None})
    value = axis.numbers[best.rows[0]] if best else None
    if value is None or len(tried) < 2 or tried[0] == tried[-1]:
        return None
    low, high, at = (scaled(v, axis.log) for v in (tried[0], tried[-1], value))
    place = (at - low) / (high - low)
    if EDGE < place < 1 - EDGE or (value == 0 and tried[0] == 0):
        return None  # zero is where most settings end, and not where the search did
    side = "low" if place <= EDGE else "high"
    ends = next_range(low, high, at, axis.log, non_negative=tried[0] >= 0)
    text = (
        f"{axis.key}: the best value, {shown(value)}, lies at the {'lower' if side == 'low' else 'upper'} edge of "
        f"{shown(tried[0])} to {shown(tried[-1])}. A better one may lie beyond."
    )
    is_integer = all(float(n).is_integer() for n in tried)
    return Edge(axis.key, side, text, override(sweep, axis, ends, len(tried), is_integer))


def next_range(low: float, high: float, at: float, log: bool, non_negative: bool) -> tuple[float, float]:
    """A range as wide as the one tried, with the best in its middle; ends in the key's own unit."""
    half = (high - low) / 2
    first, last = at - half, at + half
    if log:
        return 10**first, 10**last
    return (max(first, 0.0), last) if non_negative else (first, last)


def override(sweep: Collected, axis: Axis, ends: tuple[float, float], count: int, is_integer: bool) -> str:
    """The next range as the sweeper of this sweep takes it: values for a grid, an interval for a study."""
    low, high = ends
    if is_integer:
        low, high = max(round(low), 1) if axis.log else round(low), round(high)
    if sweep.origin.sweeper in ("", *LISTED):
        count = min(max(count, 3), 7)
        steps = [
            scaled(low, axis.log) + (scaled(high, axis.log) - scaled(low, axis.log)) * i / (count - 1)
            for i in range(count)
        ]
        values = [10**s if axis.log else s for s in steps]
        texts = [str(round(v)) if is_integer else shown(v) for v in values]
        return shlex.quote(f"{axis.key}={','.join(dict.fromkeys(texts))}")
    inside = f"range({low:.0f},{high + 1:.0f})" if is_integer else f"interval({shown(low)},{shown(high)})"
    if axis.log:
        inside = f"interval({low:.0f},{high:.0f})" if is_integer else inside
        inside = f"int({inside})" if is_integer else inside
        inside = f"tag(log,{inside})"
    return shlex.quote(f"{axis.key}={inside}")


def scaled(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def shown(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"
