"""Learning curves of configurations: the mean over their seeds, with a band from the lowest to the highest."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from mltricks.figures.base import GREY, Figure, Trace, axis, band, color, figure, line, log_axis, spans_decades
from mltricks.figures.panels import panels
from mltricks.report.charts.usual import padded, usual
from mltricks.report.charts.words import distinct, label
from mltricks.report.collect import Collected, Row
from mltricks.report.leaderboard import Group

COLORED = 10
"""Number of configurations with a colour of their own: the best ones. The others are grey."""
MOST = 300
"""Number of grey curves; more of them show nothing new, and slow the page down."""
OTHERS = 90_000
"""Place of the grey curves in the legend, behind all others."""


def curves(sweep: Collected, found: Sequence[Group]) -> Figure | None:
    """A panel for score, validation loss and training loss; ``None`` without any curve."""
    titles = {"score": sweep.objective, "val": "validation loss", "train": "training loss"}
    if sweep.objective == "val/loss":
        del titles["val"]
    shown = [kind for kind in titles if any(row.curves.get(kind) for row in sweep.rows)]
    if not shown:
        return None
    return panels(*(panel(sweep, found, kind, titles[kind]) for kind in shown), columns=min(len(shown), 3))


def panel(sweep: Collected, found: Sequence[Group], kind: str, title: str) -> Figure:
    """One quantity of all configurations over epochs."""
    averaged = [spread_of([sweep.rows[i] for i in group.rows], kind) for group in found]
    best, others = averaged[:COLORED], averaged[COLORED : COLORED + MOST]
    values = [v for x, low, mean, high in averaged for v in mean]
    ends = usual(values, [v for x, low, mean, high in averaged[:1] for v in mean])
    log = kind != "score" and ends is not None and spans_decades(ends)
    traces = [grey(others, len(averaged) - len(best))] if any(x for x, *_ in others) else []
    names = distinct([label(group, i) for i, group in enumerate(found[:COLORED])])
    for i, (x, low, mean, high) in reversed(list(enumerate(best))):
        traces += colored(found[i], names[i], i, x, low, mean, high)
    inside = [v for v in values if ends is None or ends[0] <= v <= ends[1]]
    up = log_axis(inside) if log else axis(tickformat="~g")
    if ends is not None:
        up |= {"range": padded(ends, log)}
    epochs = [x for xs, *_ in averaged for x in xs]
    height = 320 + 16 * min(len(found), COLORED)
    return figure(*traces, title=title, x=axis("epoch", integers=epochs), y=up, height=height)


Spread = tuple[list[float], list[float], list[float], list[float]]
"""Epochs, and at each the lowest value, the mean and the highest."""


def spread_of(rows: Sequence[Row], kind: str) -> Spread:
    """The curves of one configuration's runs together; runs that ended early count only if no run trained to its end.

    An epoch counts if all of these runs reached it, so that the mean is of the same runs everywhere.
    """
    whole = [row for row in rows if row.counts] or list(rows)
    known = [{x: y for x, y in row.curves[kind]} for row in whole if row.curves.get(kind)]
    shared = sorted(set.intersection(*map(set, known))) if known else []
    at = [[curve[x] for curve in known] for x in shared]
    return shared, [min(v) for v in at], [sum(v) / len(v) for v in at], [max(v) for v in at]


def colored(
    group: Group, name: str, place: int, x: list[float], low: list[float], mean: list[float], high: list[float]
) -> list[Trace]:
    """One of the best configurations."""
    if not x:
        return []
    tone = color(place)
    look = {"width": 3 if place == 0 else 2, "dash": "solid" if group.score else "dot"}
    marks = {"mode": "lines+markers"} if 1 < len(x) <= 12 else {}
    drawn = line(x, mean, name, tone, legendrank=place + 1, line=look, marker={"size": 4}, **marks)
    if group.n < 2 or low == high:
        return [drawn]
    return [band(x, low, high, name, tone, showlegend=False), drawn]


def grey(others: Sequence[Spread], total: int) -> Trace:
    """The other configurations, or the best of them, as one trace with gaps between them."""
    x = list(itertools.chain.from_iterable([*xs, None] for xs, *_ in others if xs))
    y = list(itertools.chain.from_iterable([*mean, None] for _, _, mean, _ in others if mean))
    name = f"{total} others" if total == len(others) else f"the next {len(others)} of {total} others"
    faint: dict[str, Any] = {
        "opacity": 0.35,
        "line": {"width": 1},
        "mode": "lines",
        "hoverinfo": "skip",
        "hovertemplate": None,
    }
    return line(x, y, name, GREY, legendrank=OTHERS, **faint)
