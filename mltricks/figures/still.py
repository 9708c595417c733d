"""Draws a figure as a picture with matplotlib, for ``plots/*.png`` and trackers.

It knows what ``base.py`` makes: ``scatter`` (lines, markers, filled bands, error bars), ``bar`` and ``heatmap``, linear
and logarithmic axes, ticks with names, titles, annotations, shapes, and panels by their domains. matplotlib is imported
when the first figure is drawn, without its window system.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

from mltricks.figures.base import Axis, Figure, Trace

DPI = 100
WIDTH = 520
"""Pixels of one panel's width."""
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # names such as $5 are text, not formulas
}
DASHES = {"dash": "--", "dot": ":", "dashdot": "-."}
MARKERS = {"star": "*", "x": "x", "diamond": "D", "square": "s", "cross": "P", "triangle-up": "^"}


def save(figure: Figure, path: Path, scale: float = 2.0) -> Path:
    """Write a figure as PNG.

    Args:
        figure: to draw.
        path: of the file; its folder is created.
        scale: picture pixels for each pixel of the figure's height.
    """
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ignore the warning about glyphs that the font lacks
        draw(figure).savefig(path, dpi=DPI * scale)
    return path


def write_json(figure: Figure, path: Path) -> Path:
    """Write a figure as JSON, for ``plotly.io.read_json``."""
    from mltricks.figures.page import clean

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(clean(figure)), encoding="utf-8")
    return path


def draw(figure: Figure) -> Any:
    """The figure as matplotlib's; call it within ``matplotlib.rc_context(STYLE)``."""
    from matplotlib.figure import Figure as Canvas

    layout = figure["layout"]
    numbers = sorted((k[5:] for k in layout if re.fullmatch(r"xaxis\d*", k)), key=lambda n: int(n or 1))
    across, down = ([layout[f"{a}axis{n}"].get("domain", [0, 1])[0] for n in numbers] for a in "xy")
    columns, rows = sorted(set(across)), sorted(set(down), reverse=True)
    width = layout.get("width", WIDTH * len(columns))
    canvas = Canvas(figsize=(width / DPI, layout["height"] / DPI))
    grid = canvas.add_gridspec(len(rows), len(columns), **margins(layout, width, len(columns), len(rows)))
    for number, left, bottom in zip(numbers, across, down, strict=True):
        axes = canvas.add_subplot(grid[rows.index(bottom), columns.index(left)])
        draw_panel(axes, figure, number)
    return canvas


def margins(layout: dict[str, Any], width: float, columns: int, rows: int) -> dict[str, float]:
    """Where panels stand: matplotlib's own layout engine would take as long as the drawing."""
    height = layout["height"]
    left = max(side(layout[key]) for key in layout if re.fullmatch(r"yaxis\d*", key))
    below = max(50 if "title" in layout[key] else 30 for key in layout if re.fullmatch(r"xaxis\d*", key))
    inner = (width - left - 16 - (columns - 1) * (left + 10)) / columns
    up = (height - below - 34 - (rows - 1) * (below + 30)) / rows
    ends = {"left": left / width, "right": 1 - 16 / width, "bottom": below / height, "top": 1 - 34 / height}
    return {**ends, "wspace": (left + 10) / inner, "hspace": (below + 30) / up}


def side(axis: Axis) -> float:
    """Pixels for the labels left of a panel."""
    names: Sequence[str] = axis.get("ticktext", ["0.0001"])
    return 22 + 7 * max((len(plain(name)) for name in names), default=0) + 18 * ("title" in axis)


def draw_panel(axes: Any, figure: Figure, number: str) -> None:
    """The traces at one pair of axes, with their titles, ticks and legend."""
    layout = figure["layout"]
    traces = [t for t in figure["data"] if t.get("xaxis", "x") == f"x{number}"]
    for i, trace in enumerate(traces):
        {"scatter": draw_scatter, "bar": draw_bars, "heatmap": draw_heatmap}[trace["type"]](axes, trace, i)
    for name in "xy":
        set_axis(axes, name, layout[f"{name}axis{number}"])
    for shape in layout.get("shapes", []):
        if shape.get("xref", "x").split()[0] == f"x{number}":
            draw_shape(axes, shape)
    for note in layout.get("annotations", []):
        if note.get("xref", "x").split()[0] == f"x{number}":
            draw_note(axes, note)
    if "title" in layout:
        axes.set_title(plain(layout["title"]["text"]))
    if layout.get("showlegend") and axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")


def draw_scatter(axes: Any, trace: Trace, order: int) -> None:
    line, marker, mode = trace.get("line", {}), trace.get("marker", {}), trace.get("mode", "lines")
    x, y = numbers(trace["x"]), numbers(trace["y"])
    if trace.get("fill") == "toself":
        axes.fill(x, y, color=rgba(trace.get("fillcolor", line.get("color"))), linewidth=0, label=label(trace))
        return
    if "lines" in mode:
        style = {"linestyle": DASHES.get(line.get("dash", ""), "-"), "linewidth": 0.75 * line.get("width", 2)}
        axes.plot(x, y, color=rgba(line.get("color")), label=label(trace), zorder=2 + order / 100, **style)
    if "markers" in mode:
        known = label(trace) if "lines" not in mode else None
        size, symbol = marker.get("size", 6), MARKERS.get(marker.get("symbol", ""), "o")
        colors = marker.get("color")
        colors = [rgba(c) for c in colors] if isinstance(colors, list) else [rgba(colors)]
        style = {"marker": symbol, "alpha": marker.get("opacity", 1), "linewidths": 0, "label": known}
        axes.scatter(x, y, s=(0.6 * size) ** 2, c=colors, zorder=3, **style)
    draw_errors(axes, trace, x, y)


def draw_bars(axes: Any, trace: Trace, order: int) -> None:
    marker, lying = trace.get("marker", {}), trace.get("orientation") == "h"
    x, y = numbers(trace["x"]), numbers(trace["y"])
    colors = marker.get("color")
    colors = [rgba(c) for c in colors] if isinstance(colors, list) else rgba(colors)
    size = trace.get("width", 0.8)
    style = {"color": colors, "label": label(trace), "alpha": trace.get("opacity", marker.get("opacity", 1))}
    if lying:
        axes.barh(y, x, height=size, left=trace.get("base", 0), **style)
    else:
        axes.bar(x, y, width=size, bottom=trace.get("base", 0), **style)
    draw_errors(axes, trace, x, y)


def draw_errors(axes: Any, trace: Trace, x: list[Any], y: list[Any]) -> None:
    for key, name in (("error_x", "xerr"), ("error_y", "yerr")):
        if error := trace.get(key, {}):
            high = numbers(error["array"])
            low = numbers(error.get("arrayminus", error["array"]))
            axes.errorbar(
                x, y, **{name: [low, high]}, fmt="none", ecolor=rgba(error.get("color", "#59636e")), capsize=2
            )


def draw_heatmap(axes: Any, trace: Trace, order: int) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    z = [numbers(row) for row in trace["z"]]
    places: list[Any] = [trace.get("x") or range(len(z[0])), trace.get("y") or range(len(z))]
    colors = LinearSegmentedColormap.from_list("figure", [(at, rgba(c)) for at, c in trace["colorscale"]])
    axes.grid(False)
    axes.pcolormesh(*places, z, cmap=colors, vmin=trace.get("zmin"), vmax=trace.get("zmax"), shading="nearest",
                    edgecolors="white", linewidth=0.5)  # fmt: skip
    if trace.get("texttemplate"):
        for row, cells in zip(places[1], trace["text"], strict=True):
            for column, cell in zip(places[0], cells, strict=True):
                axes.text(column, row, plain(cell), ha="center", va="center", fontsize=8)


def set_axis(axes: Any, name: str, axis: Axis) -> None:
    """Scale, range, ticks and title of one axis."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter

    mine = getattr(axes, f"{name}axis")
    if axis.get("type") == "log":
        axes.set(**{f"{name}scale": "log"})
        mine.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # matplotlib's own is a formula
        mine.set_minor_formatter(NullFormatter())
    elif isinstance(axis.get("dtick"), int | float):
        mine.set_major_locator(MultipleLocator(axis["dtick"]))
    if "tickvals" in axis:
        names = [plain(t) for t in axis["ticktext"]] if "ticktext" in axis else [str(v) for v in axis["tickvals"]]
        turn = {"rotation": 90} if name == "x" and sum(map(len, names)) > 60 else {}
        mine.set_ticks(axis["tickvals"], names, **turn)
    if str(axis.get("tickformat", "")).endswith("%"):
        mine.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
    if axis.get("showgrid") is False:
        axes.grid(False, axis=name)
    if axis.get("visible") is False:
        mine.set_visible(False)
    if "range" in axis:
        ends = [10**v if axis.get("type") == "log" else v for v in axis["range"]]
        axes.set(**{f"{name}lim": ends})
    if axis.get("autorange") == "reversed":
        mine.set_inverted(True)
    if "title" in axis:
        axes.set(**{f"{name}label": plain(axis["title"]["text"])})


def draw_shape(axes: Any, shape: dict[str, Any]) -> None:
    """A line or a rectangle between two corners."""
    line = shape.get("line", {})
    style = {"color": rgba(line.get("color", "#8b949e")), "linewidth": 0.75 * line.get("width", 1.5)}
    transform = transforms(axes, shape)
    if shape["type"] == "line":
        ends = ([shape["x0"], shape["x1"]], [shape["y0"], shape["y1"]])
        axes.plot(*ends, transform=transform, linestyle=DASHES.get(line.get("dash", ""), "-"), zorder=1, **style)
    elif shape["type"] == "rect":
        from matplotlib.patches import Rectangle

        size = (shape["x1"] - shape["x0"], shape["y1"] - shape["y0"])
        color = rgba(shape.get("fillcolor", "rgba(0,0,0,0)"))
        axes.add_patch(Rectangle((shape["x0"], shape["y0"]), *size, transform=transform, color=color, linewidth=0))


def draw_note(axes: Any, note: dict[str, Any]) -> None:
    """A text at a point; above the panel's top left corner it is the panel's title."""
    words = plain(note["text"])
    if note.get("yanchor") == "bottom" and note.get("y") == 1 and note.get("yref", "").endswith("domain"):
        axes.set_title(words)
        return
    sides = {"middle": "center", "auto": "center"}
    across, up = note.get("xanchor", "center"), note.get("yanchor", "middle")
    style = {"ha": sides.get(across, across), "va": sides.get(up, up), "fontsize": 8}
    axes.text(note["x"], note["y"], words, transform=transforms(axes, note), **style)


def transforms(axes: Any, item: dict[str, Any]) -> Any:
    """Where an item's numbers stand: on the axes' scale, or as a share of the panel."""
    from matplotlib.transforms import blended_transform_factory

    whole = [axes.transAxes if item.get(f"{a}ref", a).endswith("domain") else axes.transData for a in "xy"]
    return blended_transform_factory(*whole)


def numbers(values: Any) -> list[Any]:
    """Values with gaps as NaN."""
    return [math.nan if value is None else value for value in values]


def label(trace: Trace) -> str | None:
    """The name in the legend."""
    return plain(trace["name"]) if trace.get("showlegend") and trace.get("name") else None


def plain(words: Any) -> str:
    """A text of a figure without its tags and entities.

    >>> plain("<b>a&lt;b</b><br>c")
    'a<b\\nc'
    """
    return unescape(re.sub(r"<[^>]+>", "", str(words).replace("<br>", "\n")))


def rgba(color: Any) -> Any:
    """A CSS colour as matplotlib reads it.

    >>> rgba("rgba(255,0,0,0.5)")
    (1.0, 0.0, 0.0, 0.5)
    """
    if isinstance(color, str) and color.startswith("rgb"):
        parts = [float(part) for part in re.findall(r"[\d.]+", color)]
        return (*(part / 255 for part in parts[:3]), *(parts[3:] or [1.0]))
    return color or "#8b949e"
