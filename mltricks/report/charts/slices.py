"""The objective against each swept key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mltricks.figures.base import GOOD, SERIES, Figure, axis, figure, line, log_axis, names_axis, points
from mltricks.report.charts.usual import padded, usual
from mltricks.report.charts.words import of_job
from mltricks.report.collect import Collected, Row
from mltricks.report.leaderboard import Group
from mltricks.report.scales import Axis

CUT = "stopped before the end"


def slices(sweep: Collected, axes: Sequence[Axis], best: Group | None) -> list[Figure]:
    """A figure for every key that is no seed and has results at two values at least."""
    return [found for one in axes if not one.seed and (found := slice_of(sweep, one, best)) is not None]


def slice_of(sweep: Collected, along: Axis, best: Group | None) -> Figure | None:
    """All jobs with a result along one key; ``None`` where all of them have the same value."""
    rows = [
        (x, row) for x, row in zip(along.numbers, sweep.rows, strict=True) if x is not None and row.value is not None
    ]
    if len({x for x, _ in rows}) < 2:
        return None
    mine = [(along.numbers[i], sweep.rows[i]) for i in best.rows] if best else []
    ends = usual([row.value for _, row in rows], [row.value for _, row in mine])
    assert ends is not None, "there are values"
    whole, cut = ([(x, row) for x, row in rows if row.counts is counts] for counts in (True, False))
    traces = [dots(sweep, whole, "", {"color": SERIES[0]})]
    traces += [dots(sweep, cut, CUT, {"color": SERIES[1], "symbol": "circle-open"})] if cut else []
    traces += [means(whole)] if along.kind == "category" else []
    ringed = [(x, row) for x, row in mine if x is not None and row.value is not None]
    ring = {"color": GOOD, "symbol": "circle-open", "size": 12, "line": {"width": 2}}
    traces += [dots(sweep, ringed, "best configuration", ring)] if ringed else []
    return figure(
        *traces,
        title=f"{sweep.objective} against {along.key}",
        x=scale(along),
        y=axis(tickformat="~g", range=padded(ends)),
        height=260,
    )


def scale(along: Axis) -> dict[str, Any]:
    """The axis of a swept key."""
    if along.kind == "category":
        return names_axis([name or "-" for name in along.names], range=[-0.5, len(along.names) - 0.5])
    return log_axis(along.numbers) if along.log else axis(tickformat="~g")


def dots(
    sweep: Collected, rows: Sequence[tuple[float | None, Row]], name: str, marker: dict[str, Any]
) -> dict[str, Any]:
    """Jobs as points."""
    told = [of_job(sweep, row) for _, row in rows]
    found = points([x for x, _ in rows], [row.value for _, row in rows], name, texts=told, marker=marker)
    return found | ({"hovertemplate": "%{text}<extra></extra>"} if told else {})


def means(rows: Sequence[tuple[float | None, Row]]) -> dict[str, Any]:
    """A short bar at the mean of every category."""
    at: dict[float, list[float]] = {}
    for x, row in rows:
        if x is not None and row.value is not None:
            at.setdefault(x, []).append(row.value)
    places = sorted(at)
    ends: list[float | None] = [v for place in places for v in (place - 0.25, place + 0.25, None)]
    heights: list[float | None] = [v for place in places for v in (sum(at[place]) / len(at[place]),) * 2 + (None,)]
    return line(ends, heights, "mean", SERIES[3], line={"width": 2}, hovertemplate="mean %{y:.4~g}<extra></extra>")
