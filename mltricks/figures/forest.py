"""Forest plot: a row for each comparison with its difference and interval, and a line at zero."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from mltricks.figures.base import BAD, GOOD, GREY, Figure, axis, figure, text, trace, vertical

LINE, GAP = 15, 34
"""Pixels of a line of a label, and of the interval below it."""
LOWEST = 150
"""Pixels of the lowest figure: below, its axis would be drawn over its title."""
LONGEST = 38
"""Characters of a line of a label; a screen of 320 pixels has room for as many."""
COLORS = {"good": GOOD, "bad": BAD, "": GREY}


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        label: above the interval, at the left, wrapped, so that it is never cut.
        value: the difference.
        low, high: ends of its interval; ``None`` if unknown.
        said: what the pointer shows; may be empty.
        tone: ``good``, ``bad`` or empty.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    said: str = ""
    tone: str = ""


def forest(rows: Sequence[Row], title: str) -> Figure:
    """The rows from top to bottom.

    Args:
        rows: at least one.
        title: what the axis measures, below it.
    """
    labels = [textwrap.wrap(row.label, LONGEST, break_on_hyphens=False) or [""] for row in rows]
    heights = [LINE * len(label) + GAP for label in labels]
    places = [-(sum(heights[: i + 1]) - GAP / 2) for i in range(len(rows))]
    traces = []
    for row, y in zip(rows, places, strict=True):
        shade = COLORS[row.tone]
        look = {"mode": "markers", "marker": {"color": shade, "size": 10, "symbol": "square"}}
        known = row.low is not None and row.high is not None
        ends = {"type": "data", "symmetric": False, "thickness": 2, "width": 5, "color": shade}
        if row.low is not None and row.high is not None:
            ends |= {"array": [row.high - row.value], "arrayminus": [row.value - row.low]}
        more = {"error_x": ends} if known else {}
        hover = f"{text(row.said or row.label)}<extra></extra>"
        traces.append(trace("scatter", "", x=[row.value], y=[y], hovertemplate=hover, **look, **more))
    notes = [
        {"text": "<br>".join(map(text, label)), "x": 0, "xref": "paper", "y": y, "yref": "y", "showarrow": False,
         "xanchor": "left", "align": "left", "yanchor": "bottom", "yshift": 8, "font": {"size": 12}}
        for label, y in zip(labels, places, strict=True)
    ]  # fmt: skip
    y_axis = axis(
        showticklabels=False, ticks="", showline=False, showgrid=False, range=[-sum(heights), 0], fixedrange=True
    )
    height = max(sum(heights) + 70, LOWEST)
    margin = {"t": 10, "b": 50}
    return figure(
        *traces, x=axis(title), y=y_axis, height=height, annotations=notes, shapes=[vertical(0.0)], margin=margin
    )
