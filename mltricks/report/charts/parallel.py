"""Parallel coordinates: an upright axis for every key and one for the objective, a line for every configuration.

The lines are plain ones rather than plotly's ``parcoords``, which needs WebGL and shows nothing at the pointer.
Dragging over the axes selects configurations (``assets/parallel.js``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mltricks.figures.base import Figure, Trace, figure, shorten, text
from mltricks.report.charts.usual import padded, usual
from mltricks.report.charts.words import brief, label, short_keys
from mltricks.report.collect import Collected
from mltricks.report.leaderboard import Group
from mltricks.report.scales import Axis

RAMP = ("#7d8ca3", "#6f7fd0", "#9a5fc4", "#cf4f93", "#ec7a2c")
"""Colours from the worst fifth of the configurations to the best."""
TICKS = 5
LEAST_WIDTH = 92
"""Pixels that an axis needs; a narrow screen scrolls sideways."""
HIGHLIGHTED = 20
"""With many configurations, how many of the best ones are drawn strongly."""
MANY = 100
"""With more configurations than this, the others are faint."""


class Upright(NamedTuple):
    """An axis: name, place in [0, 1] and value as text of each configuration, and places and texts of its ticks."""

    name: str
    places: list[float | None]
    told: list[str]
    ticks: list[tuple[float, str]]


def parallel(sweep: Collected, axes: Sequence[Axis], found: Sequence[Group]) -> Figure | None:
    """A line for every configuration with a result; ``None`` with fewer than two of them or without a key."""
    shown = [i for i, group in enumerate(found) if value_of(group) is not None]
    keys = [one for one in axes if not one.seed]
    if len(shown) < 2 or not keys:
        return None
    names = short_keys([one.key for one in keys])
    uprights = [of_key(one, names[one.key], [found[i] for i in shown]) for one in keys]
    uprights.append(of_objective(sweep, [found[i] for i in shown]))
    traces = [of_share(uprights, found, shown, part) for part in range(len(RAMP))]
    free = 0.12 * (len(uprights) - 1)
    x: dict[str, Any] = {"range": [-free, len(uprights) - 1 + free], "fixedrange": True, "showgrid": False}
    x |= {"zeroline": False, "side": "top", "tickangle": 0, "tickvals": list(range(len(uprights)))}
    x["ticktext"] = [f"<b>{text(shorten(u.name, 16))}</b>" for u in uprights]
    y = {"range": [-0.06, 1.06], "visible": False, "fixedrange": True}
    look: dict[str, Any] = {
        "meta": {"least_width": LEAST_WIDTH * len(uprights)},
        "dragmode": "select",
        "showlegend": False,
        "margin": {"l": 46, "r": 16, "t": 34},
    }
    drawn = [trace for trace in traces if trace["x"]]
    return figure(*drawn, x=x, y=y, height=360, annotations=ticks(uprights), shapes=poles(uprights), **look)


def value_of(group: Group) -> float | None:
    """The mean of a configuration, or the score it had when it was stopped."""
    return group.score.mean if group.score else group.partial


def of_key(along: Axis, name: str, found: Sequence[Group]) -> Upright:
    """The axis of a swept key."""
    numbers = [along.numbers[group.rows[0]] for group in found]
    told = [brief(group.values.get(along.key, "")) for group in found]
    if along.kind == "category":
        most = max(len(along.names) - 1, 1)
        marks = [(i / most, shorten(value or "-", 12)) for i, value in enumerate(along.names)]
        return Upright(name, [None if n is None else n / most for n in numbers], told, marks)
    known = sorted({n for n in numbers if n is not None}) or [0.0, 1.0]
    places, marks = placed(numbers, (known[0], known[-1]), along.log)
    if len(known) <= TICKS:  # the values themselves
        marks = sorted({p: f"{n:.4g}" for p, n in zip(places, numbers, strict=True) if p is not None}.items())
    return Upright(name, places, told, marks)


def of_objective(sweep: Collected, found: Sequence[Group]) -> Upright:
    """The axis of the objective; extreme values stand at its ends."""
    values = [value_of(group) for group in found]
    ends = usual(values, values[:1])
    assert ends is not None, "there are values"
    places, marks = placed(values, ends, False)
    told = [f"{v:.4g}" for v in values if v is not None]
    return Upright(sweep.objective, places, told, marks)


def placed(
    numbers: Sequence[float | None], ends: tuple[float, float], log: bool
) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Places of numbers in [0, 1], and the ticks of the axis."""
    low, high = padded(ends, log) if ends[0] == ends[1] else (math.log10(e) if log else e for e in ends)
    scaled = [None if n is None else (math.log10(n) if log else n) for n in numbers]
    places = [None if s is None else min(1.0, max(0.0, (s - low) / (high - low))) for s in scaled]
    steps = [i / (TICKS - 1) for i in range(TICKS)]
    at = [low + step * (high - low) for step in steps]
    marks = [(s, f"{10**v if log else v:.3g}") for s, v in zip(steps, at, strict=True)]
    return [None if p is None else round(p, 5) for p in places], marks


def of_share(uprights: Sequence[Upright], found: Sequence[Group], shown: Sequence[int], part: int) -> Trace:
    """The lines of one fifth of the configurations, the best fifth last; ``customdata`` is the row of the table."""
    mine = [k for k in range(len(shown)) if part_of(k, len(shown)) == part]
    best, many = part == len(RAMP) - 1, len(shown) > MANY
    x: list[int | None] = []
    y: list[float | None] = []
    told: list[str] = []
    rows: list[int] = []
    for k in mine:
        name = text(label(found[shown[k]], shown[k]))
        x += [*range(len(uprights)), None]  # a gap before the next line
        y += [*(upright.places[k] for upright in uprights), None]
        told += [*(f"{name}<br>{text(f'{u.name} {u.told[k]}')}" for u in uprights), ""]
        rows += [*([shown[k]] * len(uprights)), -1]
    look = {"width": 2.5 if best else 1.2, "color": RAMP[part]}
    drawn: Trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "line": look,
        "marker": {"size": 4, "color": RAMP[part]},
    }
    drawn |= {
        "opacity": 0.2 if many and not best else 0.8,
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }
    return drawn | {"x": x, "y": y, "text": told, "customdata": rows}


def part_of(place: int, count: int) -> int:
    """Which colour of ``RAMP`` the configuration at a place has: fifths, or the best ``HIGHLIGHTED`` of many.

    >>> [part_of(i, 5) for i in range(5)], part_of(19, 1000), part_of(20, 1000), part_of(999, 1000)
    ([4, 3, 2, 1, 0], 4, 3, 0)
    """
    parts = len(RAMP)
    if count <= MANY:
        return parts - 1 - place * parts // count
    if place < HIGHLIGHTED:
        return parts - 1
    return parts - 2 - (place - HIGHLIGHTED) * (parts - 1) // (count - HIGHLIGHTED)


def ticks(uprights: Sequence[Upright]) -> list[dict[str, Any]]:
    """The values beside each axis."""
    look = {
        "bgcolor": "card",
        "opacity": 0.85,
        "borderpad": 0,
        "showarrow": False,
        "xanchor": "right",
        "xshift": -4,
        "font": {"size": 10},
    }
    return [
        {"x": at, "y": place, "text": text(words), **look} for at, u in enumerate(uprights) for place, words in u.ticks
    ]


def poles(uprights: Sequence[Upright]) -> list[dict[str, Any]]:
    """The axes themselves."""
    look = {"type": "line", "y0": 0, "y1": 1, "line": {"color": "#8b949e", "width": 1}, "layer": "below"}
    return [{"x0": at, "x1": at, **look} for at in range(len(uprights))]
