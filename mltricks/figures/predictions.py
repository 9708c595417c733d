"""Figures of predictions on the test split: classes, values, tokens. Legend: K classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mltricks.figures.base import (
    BAD,
    COLORS,
    GREY,
    Figure,
    axis,
    bars,
    color,
    figure,
    heatmap,
    line,
    names_axis,
    points,
    reference,
    shorten,
    text,
)
from mltricks.figures.panels import panels
from mltricks.intervals import wilson

MAX_NUMBERS, MAX_NAMES = 12, 40
"""Largest number of classes for counts in the cells, and for names at the axes, of a confusion matrix."""
MAX_POINTS = 3000
"""Most points of a scatter: more are thinned evenly, which the eye does not see but the page's size does."""


def confusion_matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Shares of every true class (row) by predicted class (column), with the counts if there is room.

    Args:
        counts: (K, K), true classes as rows.
        names: of the classes.
    """
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    cells = [[count or "" for count in row] for row in counts] if len(names) <= MAX_NUMBERS else None
    said = [[f"true {text(t)}<br>predicted {text(p)}<br>{n} of {sum(row)} ({n / max(sum(row), 1):.1%})" for p, n in
             zip(names, row, strict=True)] for t, row in zip(names, counts, strict=True)]  # fmt: skip
    hover: dict[str, Any] = {"customdata": said, "hovertemplate": "%{customdata}<extra></extra>"}
    ticks: dict[str, Any] = {} if len(names) <= MAX_NAMES else {"tickvals": [], "ticktext": []}
    x, y = names_axis(names, "predicted", **ticks), names_axis(names, "true", autorange="reversed", **ticks)
    trace = heatmap(shares, texts=cells, low=0, high=1, **hover)
    return figure(trace, x=x, y=y, height=min(560, 150 + 32 * len(names)) if len(names) < 9 else 460)


def reliability(bins: Sequence[tuple[float, float, int]], error: float) -> Figure:
    """Accuracy against confidence, and behind it the share of samples at each confidence.

    Args:
        bins: mean confidence, accuracy and number of samples of each bin that has samples.
        error: expected calibration error.
    """
    confidence, accuracy, count = zip(*bins, strict=True) if bins else ((), (), ())
    ends = [wilson(round(a * n), n) for _, a, n in bins]
    said = [
        f"confidence {c:.1%}, accuracy {a:.1%} ({low:.1%} to {high:.1%}), {n} samples"
        for (c, a, n), (low, high) in zip(bins, ends, strict=True)
    ]
    errors = {
        "array": [high - a for (_, high), a in zip(ends, accuracy, strict=True)],
        "arrayminus": [a - low for (low, _), a in zip(ends, accuracy, strict=True)],
        "color": COLORS["test"],
        "thickness": 1,
    }
    hover: dict[str, Any] = {"hovertemplate": "%{customdata}<extra></extra>", "customdata": said}
    shares = [n / max(sum(count), 1) for n in count]
    traces = [
        bars(confidence, shares, "share of samples", GREY, width=0.05, opacity=0.35, **hover),
        reference([0, 1], [0, 1], "calibrated"),
        line(confidence, accuracy, "accuracy", COLORS["test"], mode="lines+markers", error_y=errors, **hover),
    ]
    share: dict[str, Any] = {"range": [0, 1.02], "tickformat": ".0%"}
    title = f"accuracy (expected calibration error {error:.3f})"
    return figure(*traces, title=title, x=axis("confidence", **share), y=axis(**share), height=360)


def precision_recall(curves: Mapping[str, tuple[Sequence[float], Sequence[float], float]]) -> Figure:
    """Precision against recall, a line for each class.

    Args:
        curves: by class name: recalls, precisions, and the average precision.
    """
    share: dict[str, Any] = {"range": [0, 1.02], "tickformat": ".0%"}
    traces = [
        line(x, y, f"{shorten(name)}: {ap:.3f}", color(i), hovertemplate="recall %{x:.1%}, precision %{y:.1%}")
        for i, (name, (x, y, ap)) in enumerate(curves.items())
    ]
    return figure(*traces, title="precision", x=axis("recall", **share), y=axis(**share), height=360)


def class_balance(shares: Mapping[str, Sequence[float]], names: Sequence[str]) -> Figure:
    """The share of every class in each split."""
    traces = [
        bars(list(range(len(names))), part, split, COLORS[split], hovertemplate="%{x}: %{y:.1%}")
        for split, part in shares.items()
    ]
    ticks: dict[str, Any] = {} if len(names) <= MAX_NAMES else {"tickvals": [], "ticktext": []}
    y = axis(tickformat=".0%", rangemode="tozero")
    return figure(
        *traces, title="share of samples by class", x=names_axis(names, **ticks), y=y, height=250, barmode="group"
    )


def predicted_values(true: Sequence[float], predicted: Sequence[float]) -> Figure:
    """Predicted against true values, and the distribution of the residuals; all target columns pooled."""
    low, high = min([*true, *predicted]), max([*true, *predicted])
    every = math.ceil(len(true) / MAX_POINTS)
    cloud = points(true[::every], predicted[::every], color=COLORS["test"], marker={"size": 5, "opacity": 0.5},
                   hovertemplate="true %{x:.4~g}, predicted %{y:.4~g}<extra></extra>")  # fmt: skip
    left = figure(reference([low, high], [low, high]), cloud, title="predicted", x=axis("true"), y=axis())
    rest = [p - t for p, t in zip(predicted, true, strict=True)]
    places, counts, width = histogram(rest)
    columns = bars(
        places, counts, color=COLORS["test"], width=width, hovertemplate="%{x:.4~g}: %{y} samples<extra></extra>"
    )
    return panels(left, figure(columns, title="samples", x=axis("residual (predicted - true)"), y=axis()))


def residuals(predicted: Sequence[float], true: Sequence[float]) -> Figure:
    """Residuals against predicted values: a trend or a funnel shows what the model misses."""
    every = math.ceil(len(true) / MAX_POINTS)
    rest = [p - t for p, t in zip(predicted, true, strict=True)][::every]
    cloud = points(predicted[::every], rest, color=BAD, marker={"size": 5, "opacity": 0.5},
                   hovertemplate="predicted %{x:.4~g}, residual %{y:.4~g}<extra></extra>")  # fmt: skip
    ends = [min(predicted), max(predicted)]
    return figure(reference(ends, [0, 0]), cloud, title="residual", x=axis("predicted"), y=axis())


def histogram(values: Sequence[float], num_bins: int = 40) -> tuple[list[float], list[int], float]:
    """Centres and counts of bins of equal width, and their width.

    >>> histogram([0.0, 1.0, 1.0, 4.0], 4)
    ([0.5, 1.5, 2.5, 3.5], [1, 2, 0, 1], 1.0)
    """
    low, high = min(values), max(values)
    width = (high - low) / num_bins or 1.0
    counts = [0] * num_bins
    for value in values:
        counts[min(int((value - low) / width), num_bins - 1)] += 1
    return [low + (i + 0.5) * width for i in range(num_bins)], counts, width


def loss_by_position(losses: Sequence[float]) -> Figure:
    """The loss at every position of the window: what context gains."""
    places = list(range(1, len(losses) + 1))
    trace = line(places, losses, color=COLORS["test"], unit="nats")
    return figure(trace, title="loss (nats per token)", x=axis("position", integers=places), y=axis())
