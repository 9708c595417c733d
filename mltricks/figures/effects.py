"""The effects of many options in several tasks: a line for each option, a column for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mltricks.figures.base import BAD, GOOD, GREY, Axis, Figure, Trace, axis, figure, text, trace

LINE = 17
"""Pixels of a line."""
HEAD = 60
"""Pixels above and below the lines."""
LABELS, GAP = 0.2, 0.015
"""Shares of the width: for the names of the lines, and between two columns."""
COLORS = {"helps": GOOD, "hurts": BAD}


@dataclass(frozen=True)
class Mark:
    """An effect.

    Attributes:
        line: the name of its line.
        value: the difference.
        low, high: ends of its interval.
        verdict: ``helps``, ``hurts`` or anything else.
        said: what the pointer shows.
    """

    line: str
    value: float
    low: float
    high: float
    verdict: str
    said: str


def effects(lines: Mapping[str, str], columns: Sequence[tuple[str, Sequence[Mark]]], reach: float, unit: str) -> Figure:
    """The lines from top to bottom; a line without marks is a heading.

    Args:
        lines: the label of every line, by its name.
        columns: the title and the marks of each.
        reach: largest difference drawn; a mark beyond stands at the border as a triangle.
        unit: of the differences, below every column.
    """
    marked = {mark.line for _, marks in columns for mark in marks}
    shown = [text(label) if name in marked else f"<b>{text(label)}</b>" for name, label in lines.items()]
    height = LINE * len(lines) + HEAD
    layout: dict[str, Any] = {"height": height, "margin": {"t": 34, "b": 40}, "annotations": []}
    y = axis(
        tickvals=[-i for i in range(len(lines))], ticktext=shown, showgrid=False, fixedrange=True, automargin=False
    )
    y |= {"range": [-len(lines) + 0.4, 0.6], "ticks": "", "anchor": "free", "position": LABELS}
    width = (1 - LABELS + GAP) / len(columns)
    places = {name: -k for k, name in enumerate(lines)}
    traces: list[Trace] = []
    for i, (title, marks) in enumerate(columns):
        number = "" if i == 0 else str(i + 1)
        start = LABELS + i * width
        domain = [start, min(start + width - GAP, 1.0)]
        layout[f"xaxis{number}"] = across(unit, reach) | {"domain": domain, "anchor": "y"}
        layout["annotations"].append(heading(title, sum(domain) / 2))
        for verdict in ("helps", "hurts", ""):
            chosen = [m for m in marks if (m.verdict if m.verdict in COLORS else "") == verdict]
            traces += [drawn(chosen, places, verdict, reach) | {"xaxis": f"x{number}", "yaxis": "y"}] if chosen else []
    return figure(*traces, y=y, **layout)


def across(unit: str, reach: float) -> Axis:
    """The axis of a column."""
    return axis(unit, range=[-reach * 1.05, reach * 1.05], zeroline=True, fixedrange=True)


def heading(title: str, x: float) -> dict[str, Any]:
    """The title of a column."""
    place = {"x": x, "xref": "paper", "xanchor": "center", "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 4}
    return {"text": f"<b>{text(title)}</b>", "showarrow": False, "font": {"size": 12}, **place}


def drawn(marks: Sequence[Mark], places: dict[str, int], verdict: str, reach: float) -> Trace:
    """The marks of one verdict in a column; intervals end at the border."""
    values = [min(max(m.value, -reach), reach) for m in marks]
    symbols = [
        "circle" if abs(m.value) <= reach else "triangle-left" if m.value < 0 else "triangle-right" for m in marks
    ]
    shade = COLORS.get(verdict, GREY)
    ends = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 0, "color": shade}
    ends["array"] = [max(min(m.high, reach) - v, 0.0) for m, v in zip(marks, values, strict=True)]
    ends["arrayminus"] = [max(v - max(m.low, -reach), 0.0) for m, v in zip(marks, values, strict=True)]
    look = {"mode": "markers", "marker": {"color": shade, "size": 7, "symbol": symbols}, "error_x": ends}
    hover = {"text": [text(m.said) for m in marks], "hovertemplate": "%{text}<extra></extra>"}
    return trace("scatter", "", x=values, y=[places[m.line] for m in marks], **look, **hover)
