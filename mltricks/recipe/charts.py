"""What a figure of a step shows, as numbers; ``mltricks/figures/gates.py`` draws it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mltricks.recipe.search import Point
from mltricks.recipe.tuner import is_finite
from mltricks.sweep.outcome import Outcome

Chart = dict[str, Any]
"""Either ``{"bars": {name: value}, "y_label"}`` or ``{"series": [...], "levels": {name: y}, "x_label", "y_label",
"log_x"}``; a series is ``{"name", "x", "y", "points"}``, with ``points`` true if it is no line."""
RATE = "optim.lr"


def bars(y_label: str, values: Mapping[str, float | None]) -> Chart | None:
    """Bars for the values that are known; ``None`` without any."""
    known = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    return {"bars": known, "y_label": y_label} if known else None


def chart(
    x_label: str,
    y_label: str,
    *series: dict[str, Any],
    levels: Mapping[str, float | None] | None = None,
    log_x: bool = False,
) -> Chart | None:
    """Series over one axis; ``None`` if none of them has a point.

    Args:
        x_label, y_label: titles of the axes.
        *series: made by ``series``.
        levels: horizontal lines to compare with, by name; unknown ones are left out.
        log_x: whether the x axis is logarithmic.
    """
    drawn = [one for one in series if one["x"]]
    known = {name: value for name, value in (levels or {}).items() if value is not None and math.isfinite(value)}
    names = {"x_label": x_label, "y_label": y_label, "log_x": log_x}
    return {"series": drawn, "levels": known, **names} if drawn else None


def series(name: str, x: Sequence[float], y: Sequence[float], points: bool = False) -> dict[str, Any]:
    """A line, or points; pairs with a value that is not finite are left out."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    return {"name": name, "x": [a for a, _ in pairs], "y": [b for _, b in pairs], "points": points}


def over_epochs(name: str, values: Sequence[float]) -> dict[str, Any]:
    """A curve with a value for every epoch, the first after epoch 1."""
    return series(name, list(range(1, len(values) + 1)), values)


def scores_over_rates(
    points: Sequence[Point],
    outcomes: Sequence[Outcome],
    *others: dict[str, Any],
    levels: Mapping[str, float | None] | None = None,
) -> Chart | None:
    """The objective of the completed trials over their learning rates.

    Args:
        points, outcomes: the trials.
        *others: further series.
        levels: scores to compare with.
    """
    done = [(float(p[RATE]), o.summary.objective) for p, o in zip(points, outcomes, strict=True) if is_finite(o)]
    if not done:
        return None
    done.sort(key=lambda pair: pair[0])
    trials = series("trials", [rate for rate, _ in done], [o["value"] for _, o in done], points=True)
    return chart("learning rate", str(done[0][1]["name"]), trials, *others, levels=levels, log_x=True)
