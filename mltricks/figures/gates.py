"""Small figures of the steps of a recipe, from the entry ``chart`` of their gates in ``recipe.json``."""

from __future__ import annotations

from typing import Any

from mltricks.figures.base import (
    COLORS,
    GREY,
    SERIES,
    Figure,
    Trace,
    axis,
    bars,
    color,
    figure,
    line,
    log_axis,
    merged,
    names_axis,
    points,
    reference,
    shorten,
    spans_decades,
    text,
)

HEIGHT, ROW = 170, 22
"""Pixels of a small figure, and of a row of bars."""
BY_NAME = {"training": COLORS["train"], "validation": COLORS["val"]}
DASHES = ("dash", "dot", "dashdot")
NARROW = 5.0
"""Ratio of the largest to the smallest learning rate up to which the axis is linear, since a logarithmic one would have
no ticks."""


def gate_figure(chart: dict[str, Any]) -> Figure:
    """The figure of a gate: bars, or series with horizontal lines to compare with.

    Args:
        chart: as described in ``mltricks/recipe/charts.py``.
    """
    return bars_figure(chart) if "bars" in chart else series_figure(chart)


def bars_figure(chart: dict[str, Any]) -> Figure:
    """Lying bars, the first at the top; the value stands beside each."""
    names, values = list(chart["bars"]), list(chart["bars"].values())
    y = names_axis(names, autorange="reversed")
    y["ticktext"] = [text(shorten(name, 22)) for name in names]
    written = {"text": [f"{value:.4g}" for value in values], "textposition": "inside", "insidetextanchor": "start"}
    look = {"marker": {"color": [GREY, *[SERIES[0]] * (len(values) - 1)]}, "textfont": {"color": "#ffffff"}}
    drawn = bars(list(range(len(names))), values, orientation="h") | written | look
    return figure(drawn, title=chart["y_label"], x=axis(), y=y, height=60 + ROW * len(names))


def series_figure(chart: dict[str, Any]) -> Figure:
    """Lines and points over one axis."""
    levels = chart["levels"]
    xs = [x for one in chart["series"] for x in one["x"]]
    ys = [y for one in chart["series"] for y in one["y"]] + list(levels.values())
    traces = [drawn(one, i) for i, one in enumerate(chart["series"])]
    for dash, (name, value) in zip(DASHES, levels.items(), strict=False):
        level = reference([min(xs), max(xs)], [value] * 2, f"{name} {value:.3g}")
        traces.append(merged(level, {"line": {"dash": dash}}))
    wide = chart["log_x"] and max(xs) / min(xs) > NARROW
    x = log_axis(xs, chart["x_label"]) if wide else axis(chart["x_label"], integers=None if chart["log_x"] else xs)
    if min(xs) == max(xs):
        x["range"] = [xs[0] / 2, xs[0] * 2]  # plotly would show -1 to 1
    y = log_axis(ys) if "loss" in chart["y_label"] and spans_decades(ys) else axis()
    return figure(*traces, title=chart["y_label"], x=x, y=y, height=HEIGHT)


def drawn(one: dict[str, Any], i: int) -> Trace:
    """One series in its colour."""
    draw = points if one["points"] else line
    return draw(one["x"], one["y"], one["name"], BY_NAME.get(one["name"], color(i)))
