"""The objective over the two most important numbers, smoothed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mltricks.figures.base import Figure, axis, figure, log_axis, points
from mltricks.report.charts.invariants import RATE, flat_lines, known_invariant
from mltricks.report.charts.usual import usual
from mltricks.report.charts.words import of_job
from mltricks.report.collect import Collected
from mltricks.report.importance import Importance
from mltricks.report.scales import Axis

CELLS = 40
"""Points of the surface along each axis."""
LEAST = 3
"""Values that each key needs, so that there is a surface."""


def contour(sweep: Collected, axes: Sequence[Axis], found: Importance) -> Figure | None:
    """The surface and the jobs; ``None`` where fewer than two numbers have three values or more."""
    order = [share.key for share in found.shares]
    numbers = [one for one in axes if one.kind == "number" and not one.seed and one.key in order]
    wide = [one for one in numbers if len({n for n in one.numbers if n is not None}) >= LEAST]
    if len(wide) < 2:
        return None
    across, up = sorted(wide, key=lambda one: order.index(one.key))[:2]
    jobs = [
        i
        for i, row in enumerate(sweep.rows)
        if row.counts and across.numbers[i] is not None and up.numbers[i] is not None
    ]
    x, y = ([float(one.numbers[i] or 0.0) for i in jobs] for one in (across, up))
    ends = usual([sweep.rows[i].value for i in jobs])
    if ends is None or ends[0] == ends[1]:
        return None
    z = [min(max(float(sweep.rows[i].value or 0.0), ends[0]), ends[1]) for i in jobs]
    grid_x, grid_y, surface = smoothed(x, y, z, across.log, up.log)
    trace = surface_of(grid_x, grid_y, surface, not sweep.maximize)
    told = [of_job(sweep, sweep.rows[i]) for i in jobs]
    dot = {"size": 5, "color": "white", "opacity": 0.8, "line": {"width": 1, "color": "#333333"}}
    dots = points(x, y, "", texts=told, marker=dot, hovertemplate="%{text}<extra></extra>")
    rule = known_invariant(sweep, (across.key, up.key))
    upright = up.key == RATE
    rates, others = (grid_y, grid_x) if upright else (grid_x, grid_y)
    lines = [flat_lines(rule, rates, others, upright)] if rule is not None and rates[0] > 0 else []
    return figure(trace, *lines, dots, title=sweep.objective, x=scaled(across, x), y=scaled(up, y), height=380)


def surface_of(x: list[float], y: list[float], z: list[list[float]], reversed_colours: bool) -> dict[str, Any]:
    """The trace of the surface."""
    look = {"contours": {"coloring": "fill"}, "line": {"width": 0.5, "color": "rgba(125,133,144,0.6)"}, "ncontours": 12}
    colours = {"colorscale": "Viridis", "reversescale": reversed_colours, "showlegend": False}
    bar = {"colorbar": {"thickness": 12, "outlinewidth": 0}, "hoverinfo": "skip", "name": ""}
    return {"type": "contour", "x": x, "y": y, "z": z, **colours, **look, **bar}


def scaled(one: Axis, values: Sequence[float]) -> dict[str, Any]:
    """An axis with the name of its key."""
    return log_axis(values, one.key) if one.log else axis(one.key, tickformat="~g")


def smoothed(
    x: Sequence[float], y: Sequence[float], z: Sequence[float], log_x: bool, log_y: bool
) -> tuple[list[float], list[float], list[list[float]]]:
    """Means of ``z`` weighted by a Gaussian of the distance (Nadaraya 1964, Watson 1964), Silverman's bandwidth.

    Args:
        x, y, z: as many each.
        log_x, log_y: whether distances are measured between logarithms.

    Returns:
        ``CELLS`` positions along x and y, and the surface, row by row along y.
    """
    import numpy as np

    def unit(values: Sequence[float], log: bool) -> tuple[Any, Any, Any]:
        at = np.log10(values) if log else np.asarray(values, float)
        low, high = at.min(), at.max()
        places = np.linspace(0, 1, CELLS)
        ticks = low + places * (high - low)
        return (at - low) / (high - low), places, 10**ticks if log else ticks

    (at_x, cells_x, ticks_x), (at_y, cells_y, ticks_y) = unit(x, log_x), unit(y, log_y)
    width = max(0.3 * len(z) ** (-1 / 6), 0.05)  # 0.3 is the deviation of a uniform variable in [0, 1]
    near_x, near_y = (
        np.exp(-(((cells[:, None] - at) / width) ** 2) / 2) for cells, at in ((cells_x, at_x), (cells_y, at_y))
    )
    weight = near_y @ near_x.T
    total = (near_y * np.asarray(z)) @ near_x.T
    surface = total / np.maximum(weight, math.ulp(0.0))
    return ticks_x.tolist(), ticks_y.tolist(), surface.round(6).tolist()
