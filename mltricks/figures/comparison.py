"""Figures of several runs: their learning curves, and their scores with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mltricks.figures.base import (
    HEIGHT,
    Figure,
    Trace,
    axis,
    color,
    figure,
    finite,
    line,
    log_axis,
    names_axis,
    spans_decades,
    text,
    trace,
)
from mltricks.figures.panels import panels

Curve = Sequence[Sequence[float]]
"""Pairs of epoch and value."""
Row = tuple[str, float, float | None, float | None]


@dataclass(frozen=True)
class Line:
    """The curves of one configuration in one panel: a thin line for each run, and their mean.

    Attributes:
        name: of the configuration.
        runs: name and curve of each run.
    """

    name: str
    runs: Sequence[tuple[str, Curve]]


def curves(found: Mapping[str, Sequence[Line]]) -> Figure:
    """A panel for each metric, over epochs, a colour for each configuration.

    Args:
        found: by title of the panel; every panel has the same configurations in the same order.
    """
    return panels(*(curves_panel(title, lines) for title, lines in found.items()), columns=min(len(found), 3))


def curves_panel(title: str, lines: Sequence[Line]) -> Figure:
    """One metric of all configurations."""
    traces = [one for i, each in enumerate(lines) for one in traces_of(each, color(i))]
    epochs, values = ([v for each in lines for _, c in each.runs for v in column(c, i)] for i in (0, 1))
    up = log_axis(values) if "loss" in title and spans_decades(values) else axis()
    return figure(*traces, title=title, x=axis("epoch", integers=epochs), y=up, height=HEIGHT + 20)


def traces_of(one: Line, shade: str) -> list[Trace]:
    """A line for one run; for several thin lines and their mean. A click in the legend hides all of them."""
    drawn = [(name, curve) for name, curve in one.runs if curve]
    if len(drawn) < 2:
        found = drawn or [(one.name, [])]
        return [line(column(c, 0), column(c, 1), one.name, shade, **pointed(one.name)) for _, c in found]
    thin: dict[str, Any] = {"showlegend": False, "opacity": 0.4, "line": {"width": 1}}
    lines = [line(column(c, 0), column(c, 1), one.name, shade, **thin, **pointed(name)) for name, c in drawn]
    return [*lines, line(*mean([c for _, c in drawn]), one.name, shade, **pointed(f"{one.name}, mean"))]


def pointed(name: str) -> dict[str, Any]:
    """What the pointer shows at a point of a line."""
    return {"hovertemplate": f"epoch %{{x:.4~g}}: %{{y:.4~g}}<extra>{text(name)}</extra>"}


def column(curve: Curve, i: int) -> list[float]:
    return [point[i] for point in curve]


def mean(found: Sequence[Curve]) -> tuple[list[float], list[float]]:
    """Epochs at which every curve has a value, and the means there.

    >>> mean([[[1, 0.5], [2, 1.0]], [[1, 1.5], [2, 2.0], [3, 9.0]]])
    ([1, 2], [1.0, 1.5])
    """
    tables = [{x: y for x, y in curve} for curve in found]
    at = [x for x in tables[0] if all(x in table for table in tables)]
    return at, [sum(table[x] for table in tables) / len(tables) for x in at]


def scores(rows: Sequence[Row], colors: Sequence[int], title: str) -> Figure:
    """A point for each configuration with its interval, the first at the top.

    Args:
        rows: name, score, and the ends of the interval, which are ``None`` where there is none.
        colors: numbers of the configurations' colours.
        title: name of the score.
    """
    places = list(range(len(rows)))
    points = trace("scatter", "", x=[value for _, value, _, _ in rows], y=places, mode="markers")
    points["marker"] = {"size": 10, "color": [color(i) for i in colors]}
    points["error_x"] = {
        "type": "data",
        "symmetric": False,
        "array": [0 if high is None else high - value for _, value, _, high in rows],
        "arrayminus": [0 if low is None else value - low for _, value, low, _ in rows],
    }
    points |= {"text": [said(*row) for row in rows], "hovertemplate": "%{text}<extra></extra>"}
    across = axis(range=around(finite(number for row in rows for number in row[1:])))
    up = names_axis([name for name, *_ in rows], range=[len(rows) - 0.5, -0.5])
    return figure(points, title=title, x=across, y=up, height=70 + 34 * len(rows))


def said(name: str, value: float, low: float | None, high: float | None) -> str:
    """What the pointer shows at a score."""
    return f"{text(name)}: {value:.4f}" + ("" if low is None else f" [{low:.4f}, {high:.4f}]")


def around(values: Sequence[float]) -> list[float]:
    """A range that leaves a margin around the values.

    >>> around([0.0, 1.0])
    [-0.06, 1.06]
    """
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return [low - margin, high + margin]
