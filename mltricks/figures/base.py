"""A figure is plain data: plotly's JSON, a dict of lists, numbers and texts, made by pure functions.

A browser draws it with plotly.js (``page.py``), matplotlib as a picture (``still.py``), a notebook with
``plotly.io.read_json``. Nothing here imports a drawing library. Texts of users pass through ``text``, because plotly
reads some HTML in labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

Figure = dict[str, Any]
"""``{"data": [trace, ...], "layout": {...}}`` in plotly's JSON."""
Trace = dict[str, Any]
Axis = dict[str, Any]
Numbers = Sequence[float | int | None]

COLORS = {"train": "#2f7fc1", "val": "#e1812c", "test": "#2e9e5b"}
"""The colour of each split: legible on white and on black."""
SERIES = ("#2f7fc1", "#e1812c", "#2e9e5b", "#c8508a", "#8a63c9", "#a97f1f", "#25a1ae", "#d1495b", "#5f8f2f", "#7d8590")
"""Colours for anything else, in order; ``color(i)`` starts again after the last."""
GREY = "#8b949e"
"""References: diagonals, trivial predictors, intervals without a split."""
GOOD, BAD = "#2e9e5b", "#d1495b"
DECADES = 30.0
"""Ratio of the largest to the smallest number from which an axis is logarithmic."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
HEIGHT = 300
"""Height of a panel in pixels."""


def text(words: Any) -> str:
    """A user's text as plotly shows it unchanged: it reads tags, entities and ``$formulas$`` in labels.

    >>> text("a<b> & $5")
    'a&lt;b&gt; &amp; &#36;5'
    """
    return escape(str(words), quote=False).replace("$", "&#36;")


def shorten(name: str, length: int = 14) -> str:
    """A name that fits beside an axis.

    >>> shorten("a_very_long_class_name")
    'a_very_long_c…'
    """
    return name if len(name) <= length else name[: length - 1] + "…"


def color(i: int) -> str:
    """The i-th colour of ``SERIES``."""
    return SERIES[i % len(SERIES)]


def faded(color: str, opacity: float = 0.18) -> str:
    """A colour ``#rrggbb`` made transparent.

    >>> faded("#ff0000", 0.5)
    'rgba(255,0,0,0.5)'
    """
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def finite(values: Iterable[Any]) -> list[float]:
    """The numbers of ``values`` that are finite."""
    return [v for v in values if isinstance(v, int | float) and math.isfinite(v)]


def spans_decades(values: Iterable[Any], ratio: float = DECADES) -> bool:
    """Whether all numbers are positive, and so far apart that a linear axis would hide the small ones.

    >>> spans_decades([0.01, 0.5, 2.0]), spans_decades([0.0, 0.5, 2.0]), spans_decades([1, 2])
    (True, False, False)
    """
    known = finite(values)
    return bool(known) and min(known) > 0 and max(known) / min(known) > ratio


def axis(
    title: str = "", unit: str = "", *, log: bool = False, integers: Iterable[Any] | None = None, **more: Any
) -> Axis:
    """An axis of a panel.

    Args:
        title, unit: shown as "title (unit)"; escaped.
        log: logarithmic; see ``spans_decades``.
        integers: the positions along the axis, if whole numbers alone make sense as ticks (epochs); they are left to
            plotly where fewer than two lie between the positions.
        **more: anything that plotly's axis knows, such as ``range`` or ``tickvals``.
    """
    found: Axis = {"automargin": True, "zeroline": False}
    if title:
        found["title"] = {"text": text(f"{title} ({unit})" if unit else title), "standoff": 8}
    if log:
        found |= {"type": "log", "exponentformat": "e"}
    known = finite(integers) if integers is not None else []
    if known and (max(known) == min(known) or math.floor(max(known)) > math.ceil(min(known))):  # else at most one tick
        found |= {"tickformat": "d", "dtick": whole_step(known), "tick0": 0}
    return found | more


def log_axis(values: Iterable[Any], title: str = "", **more: Any) -> Axis:
    """A logarithmic axis with ticks at 1, 2 and 5, or at powers of ten where the values span many."""
    known = [v for v in finite(values) if v > 0]
    few = bool(known) and max(known) / min(known) < 10**2.5
    return axis(title, log=True, **(ticks_125(min(known), max(known)) if few else {})) | more


def ticks_125(low: float, high: float) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 times powers of ten, written out: plotly's own say 2 for 0.2, 2 and 20.

    >>> ticks_125(0.3, 4)["ticktext"]
    ['0.2', '0.5', '1', '2', '5']
    """
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    places = [float(f"{m}e{k}") for k in (powers.start - 1, *powers, powers.stop) for m in (1, 2, 5)]
    first = max(i for i, place in enumerate(places) if place <= low)
    last = min(i for i, place in enumerate(places) if place >= high)
    shown = places[first : last + 1]
    return {"tickvals": shown, "ticktext": [f"{place:g}" for place in shown]}


def names_axis(names: Sequence[Any], title: str = "", **more: Any) -> Axis:
    """An axis of categories at the positions 0, 1, ...: equal names stay apart, numbers stay names."""
    places = {"tickvals": list(range(len(names))), "ticktext": [text(shorten(str(n))) for n in names]}
    return axis(title, showgrid=False) | places | more


def whole_step(values: Iterable[Any], most: int = 6) -> int:
    """The distance of ticks at whole numbers: 1, 2 or 5 times a power of ten, at most ``most`` ticks.

    >>> whole_step([1, 3]), whole_step([0, 20]), whole_step([0, 300])
    (1, 5, 50)
    """
    known = finite(values) or [0.0]
    least = max((max(known) - min(known)) / most, 1)
    power = 10 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)


def line(x: Numbers, y: Numbers, name: str = "", color: str = SERIES[0], *, unit: str = "", **more: Any) -> Trace:
    """A line through points; with ``mode="lines+markers"`` also marks at them. A ``None`` in ``y`` is a gap."""
    shape = {"mode": "markers" if len(x) == 1 else "lines", "line": {"color": color, "width": 2}}
    found = trace("scatter", name, x=list(x), y=list(y), marker={"color": color, "size": 6}, **shape)
    return merged(found, {"hovertemplate": f"%{{y:.4~g}}{suffix(unit)}", **more})


def points(
    x: Numbers, y: Numbers, name: str = "", color: str = SERIES[0], *, texts: Sequence[Any] = (), **more: Any
) -> Trace:
    """Points, each with a text that the pointer shows."""
    found = trace("scatter", name, x=list(x), y=list(y), mode="markers")
    found["marker"] = {"color": color, "size": 6, "opacity": 0.75}
    if texts:
        found |= {"text": [text(t) for t in texts], "hovertemplate": "%{text}<br>%{x:.4~g}, %{y:.4~g}"}
    return merged(found, more)


def band(x: Numbers, low: Numbers, high: Numbers, name: str = "", color: str = SERIES[0], **more: Any) -> Trace:
    """The area between two lines, such as an interval around a mean."""
    outline = {"x": [*x, *reversed(x)], "y": [*high, *reversed(low)]}
    look = {"mode": "lines", "line": {"width": 0, "color": color}, "fill": "toself", "fillcolor": faded(color)}
    return merged(trace("scatter", name, **outline, **look, hoverinfo="skip", showlegend=bool(name)), more)


def bars(positions: Sequence[Any], heights: Numbers, name: str = "", color: str = SERIES[0], **more: Any) -> Trace:
    """Bars; lying with ``orientation="h"``, where positions are on the y axis."""
    lying = more.get("orientation") == "h"
    x, y = (heights, positions) if lying else (positions, heights)
    found = trace("bar", name, x=list(x), y=list(y), marker={"color": color})
    return merged(found, {"hovertemplate": "%{x:.4~g}" if lying else "%{y:.4~g}", **more})


def heatmap(z: Sequence[Numbers], *, texts: Sequence[Sequence[Any]] | None = None, low: float | None = None,
            high: float | None = None, color: str = SERIES[0], **more: Any) -> Trace:  # fmt: skip
    """Cells, row by row, the first row at the bottom unless the y axis has ``autorange="reversed"``.

    Args:
        z: numbers that choose the colours: transparent at the lowest, ``color`` at the highest.
        texts: shown in the cells.
        low, high: the numbers of the lowest and highest colour; of the data, if ``None``.
        color: ``#rrggbb``.
        **more: anything that plotly's heatmap knows.
    """
    scale = [[0, faded(color, 0.04)], [1, faded(color, 1)]]
    found: Trace = {"type": "heatmap", "z": [list(row) for row in z], "colorscale": scale, "showscale": False}
    found |= {"xgap": 1, "ygap": 1, "hoverongaps": False}
    if low is not None or high is not None:
        found |= {"zmin": low, "zmax": high}
    if texts is not None:
        found |= {"text": [[text(t) for t in row] for row in texts], "texttemplate": "%{text}"}
    return merged(found, more)


def reference(x: Numbers, y: Numbers, name: str = "") -> Trace:
    """A grey dashed line to hold others against, such as a diagonal."""
    return line(x, y, name, GREY, showlegend=bool(name), hoverinfo="skip", hovertemplate=None,
                line={"dash": "dash", "width": 1.5})  # fmt: skip


def vertical(x: float, color: str = GREY) -> dict[str, Any]:
    """A thin line from bottom to top at ``x``, for the layout's ``shapes``."""
    ends = {"x0": x, "x1": x, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain"}
    return {"type": "line", **ends, "line": {"color": color, "width": 1.5, "dash": "dot"}}


def trace(kind: str, name: str, **more: Any) -> Trace:
    """A trace with an escaped name; without a name it is not in the legend."""
    return {"type": kind, "name": text(name), "showlegend": bool(name), **more}


def figure(*traces: Trace, title: str = "", x: Axis | None = None, y: Axis | None = None, height: int = HEIGHT,
           **more: Any) -> Figure:  # fmt: skip
    """A panel in the house style.

    Args:
        *traces: what it shows.
        title: what the y axis measures, with its unit, above the panel; escaped.
        x, y: the axes.
        height: pixels.
        **more: anything that plotly's layout knows.
    """
    named = sum(1 for t in traces if t.get("showlegend"))
    layout: dict[str, Any] = {
        "height": height,
        "margin": {"l": 10, "r": 12, "t": 14 + 22 * bool(title) + 22 * (named > 1), "b": 10, "autoexpand": True},
        "font": {"family": FONT, "size": 12},
        "hovermode": "closest",
        "hoverlabel": {"namelength": -1, "font": {"family": FONT, "size": 12}},
        "showlegend": named > 1,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": x or axis(),
        "yaxis": y or axis(),
    }
    if title:
        layout["title"] = heading(title)
    return {"data": list(traces), "layout": merged(layout, more)}


def heading(title: str) -> dict[str, Any]:
    """A title at the top left corner of the figure."""
    place = {"x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top"}
    return {"text": f"<b>{text(title)}</b>", "font": {"size": 13}, "pad": {"t": 6, "l": 4}, **place}


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """``first`` with the entries of ``second``, nested dicts entry by entry; ``None`` removes an entry.

    >>> merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "d": None})
    {'a': {'b': 1, 'c': 4}}
    """
    found = dict(first)
    for key, value in second.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = value
    return found


def suffix(unit: str) -> str:
    """A unit behind a number in the text that the pointer shows."""
    return "%" if unit == "%" else f" {text(unit)}" if unit else ""
