"""Figures of a run's training: learning curves, schedules, norms of the layers, and time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mltricks.figures.base import (
    COLORS,
    GOOD,
    GREY,
    Figure,
    axis,
    bars,
    color,
    faded,
    figure,
    line,
    log_axis,
    shorten,
    spans_decades,
    vertical,
)
from mltricks.figures.panels import panels

Points = tuple[Sequence[float], Sequence[float]]
"""Positions and values."""
NAMES = {"train": "training", "val": "validation"}
HEALTHY = (1e-4, 1e-2)
"""Usual ratios of the norm of an update to that of the weight: within a factor of ten of 1e-3."""


def learning_curves(curves: Mapping[str, Mapping[str, Points]], best: int | None) -> Figure:
    """A panel for each metric, over epochs.

    Args:
        curves: by metric and split (``train``, ``val``): epochs and values.
        best: epoch of the best weights, which is marked.
    """
    return panels(*(metric_panel(name, splits, best) for name, splits in curves.items()))


def metric_panel(name: str, splits: Mapping[str, Points], best: int | None) -> Figure:
    """One metric over epochs."""
    traces: list[Any] = []
    epochs: list[float] = []
    values: list[float] = []
    for split, (x, y) in splits.items():
        epochs, values = [*epochs, *x], [*values, *y]
        marks = {"mode": "lines+markers"} if split == "val" and len(x) <= 40 else {}
        traces.append(line(x, y, NAMES[split], COLORS[split], **marks if len(x) > 1 else {}))
    found = {math.ceil(x): (x, y) for x, y in zip(*splits["val"], strict=True)} if "val" in splits else {}
    at = found.get(best or 0)  # a run may end within an epoch
    if at:
        star: dict[str, Any] = {"mode": "markers", "marker": {"symbol": "star", "size": 13}, "line": None}
        traces.append(line([at[0]], [at[1]], "best epoch", COLORS["val"], **star))
    shapes = [vertical(at[0])] if at else []
    up = log_axis(values) if name == "loss" and spans_decades(values) else axis()
    return figure(*traces, title=name, x=axis("epoch", integers=epochs), y=up, shapes=shapes)


def schedules(values: Mapping[str, Points]) -> Figure:
    """A panel for each hyperparameter that changes in the course of the run, over updates."""
    height = 300 if len(values) == 1 else 240
    return panels(
        *(
            figure(
                line(x, y, color=COLORS["train"]), title=name, x=axis("update"), y=axis(tickformat="~g"), height=height
            )
            for name, (x, y) in values.items()
        )
    )


def layer_norms(groups: Mapping[str, Mapping[str, Points]]) -> Figure:
    """Norms of the gradient and of the weight, and the ratio of update to weight, a line for each group of layers.

    Args:
        groups: by group and quantity (``gradient``, ``weight``, ``ratio``): updates and values.
    """
    titles = {"gradient": "norm of the gradient", "weight": "norm of the weights", "ratio": "update / weight"}
    return panels(*(norm_panel(groups, key, title) for key, title in titles.items()), columns=3)


def norm_panel(groups: Mapping[str, Mapping[str, Points]], key: str, title: str) -> Figure:
    """One quantity of every group."""
    traces: list[Any] = []
    values: list[float] = []
    for i, (name, quantities) in enumerate(groups.items()):
        x, y = quantities[key]
        shown = [v if v > 0 else None for v in y]  # a logarithmic axis has no zero
        values += y
        traces.append(line(x, shown, shorten(name, 24), color(i), mode="lines+markers", marker={"size": 4}))
    up = log_axis(values) if key != "weight" or spans_decades(values) else axis()
    band = {"type": "rect", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": HEALTHY[0], "y1": HEALTHY[1]}
    shapes = [{**band, "fillcolor": faded(GOOD, 0.1), "line": {"width": 0}, "layer": "below"}] if key == "ratio" else []
    return figure(*traces, title=title, x=axis("update"), y=up, shapes=shapes)


def throughput(epochs: Sequence[float], speeds: Sequence[float]) -> Figure:
    """Training samples per second over epochs."""
    trace = line(epochs, speeds, color=COLORS["train"], unit="samples/s")
    return figure(
        trace, title="samples per second", x=axis("epoch", integers=epochs), y=axis(rangemode="tozero"), height=220
    )


def phases(seconds: Mapping[str, float]) -> Figure:
    """Seconds of every phase of a run."""
    names, values = list(seconds), list(seconds.values())
    texts: dict[str, Any] = {"text": [f"{v:.3g} s" for v in values], "textposition": "outside", "cliponaxis": False}
    trace = bars(list(range(len(names))), values, color=GREY, orientation="h", **texts)
    trace["hovertemplate"] = "%{y}: %{x:.3g} s<extra></extra>"
    y = axis(tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False)
    x = axis("", "s", range=[0, 1.2 * max(values, default=1.0)])
    return figure(trace, title="seconds by phase", x=x, y=y, height=60 + 32 * len(names))


def as_points(pairs: Sequence[tuple[Any, Any]]) -> Points:
    """Pairs as positions and values."""
    return [x for x, _ in pairs], [y for _, y in pairs]
