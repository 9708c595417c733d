"""Several figures as the panels of one, each with axes of its own."""

from __future__ import annotations

import math
from typing import Any

from mltricks.figures.base import Figure

GAP_X, GAP_Y = 0.09, 0.16
"""Share of the figure between two panels."""
TITLE = 30
"""Pixels between the upper panels and the legend, for their titles; ``charts.js`` keeps them in one column."""


def panels(*figures: Figure, columns: int = 2) -> Figure:
    """One figure with a panel for each; a narrow screen shows them in one column (``assets/charts.js``).

    Args:
        *figures: made by ``base.figure``; equal names stand in the legend once.
        columns: panels beside each other.
    """
    columns = min(columns, len(figures))
    rows = math.ceil(len(figures) / columns)
    tallest = max(f["layout"]["height"] for f in figures)
    layout = {k: v for k, v in figures[0]["layout"].items() if k not in ("xaxis", "yaxis", "title")}
    layout |= {
        "height": tallest * rows,
        "annotations": [],
        "shapes": [],
        "meta": {"panels": len(figures), "columns": columns},
    }
    layout["margin"] = layout["margin"] | {"t": 36}
    layout["showlegend"] = any(f["layout"]["showlegend"] for f in figures)
    layout["legend"] = layout["legend"] | {"y": 1 + TITLE / layout["height"]}
    found: Figure = {"data": [], "layout": layout}
    seen: set[str] = set()
    for i, one in enumerate(figures):
        number = "" if i == 0 else str(i + 1)
        across, down = domains(i, len(figures), columns)
        layout[f"xaxis{number}"] = one["layout"]["xaxis"] | {"domain": across, "anchor": f"y{number}"}
        layout[f"yaxis{number}"] = one["layout"]["yaxis"] | {"domain": down, "anchor": f"x{number}"}
        layout["annotations"] += [*titled(one, number), *moved(one, number, "annotations")]
        layout["shapes"] += moved(one, number, "shapes")
        for trace in one["data"]:
            shown = trace.get("showlegend", False) and trace["name"] not in seen
            seen |= {trace["name"]} if shown else set()
            own = {"xaxis": f"x{number}", "yaxis": f"y{number}", "showlegend": shown}
            found["data"].append(trace | own | ({"legendgroup": trace["name"]} if trace.get("name") else {}))
    return found


def domains(i: int, total: int, columns: int) -> tuple[list[float], list[float]]:
    """The share of the width and of the height that panel ``i`` takes, row by row from the top left.

    >>> domains(1, 2, 1)
    ([0.0, 1.0], [0.0, 0.42])
    """
    rows = math.ceil(total / columns)
    row, column = divmod(i, columns)
    width, height = (1 - GAP_X * (columns - 1)) / columns, (1 - GAP_Y * (rows - 1)) / rows
    left, top = column * (width + GAP_X), 1 - row * (height + GAP_Y)
    return [round(left, 4), round(left + width, 4)], [round(top - height, 4), round(top, 4)]


def titled(one: Figure, number: str) -> list[dict[str, Any]]:
    """The title of a panel, above its top left corner."""
    if "title" not in one["layout"]:
        return []
    title = one["layout"]["title"]
    place = {"xref": f"x{number} domain", "yref": f"y{number} domain", "x": 0, "y": 1, "xanchor": "left"}
    return [{"text": title["text"], "font": title["font"], "showarrow": False, "yanchor": "bottom", **place}]


def moved(one: Figure, number: str, what: str) -> list[dict[str, Any]]:
    """The annotations or shapes of a panel, at its own axes: ``x domain`` becomes ``x2 domain``."""
    return [
        item | {f"{a}ref": item.get(f"{a}ref", a).replace(a, f"{a}{number}", 1) for a in "xy"}
        for item in one["layout"].get(what, [])
    ]
