"""The history of a sweep: the objective of every job in order of its end, and the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mltricks.figures.base import BAD, GOOD, SERIES, Figure, Trace, axis, figure, line, points
from mltricks.report.charts.usual import padded, usual
from mltricks.report.charts.words import of_job
from mltricks.report.collect import Collected, Row

LOOKS: dict[str, tuple[str, str, str]] = {
    "complete": (SERIES[0], "circle", "trained to the end"),
    "cut": (SERIES[1], "circle-open", "pruned, interrupted or unfinished"),
    "lost": (BAD, "x", "failed or diverged"),
}
"""Colour, symbol and name of each kind of end."""


def history(sweep: Collected) -> Figure | None:
    """Values of the jobs in order of their end; ``None`` with fewer than two results."""
    rows = in_order(sweep.rows)
    values = [row.value for row in rows if row.counts]
    if len(values) < 2:
        return None
    best = running_best(sweep, rows)
    ends = usual([row.value for row in rows if row.value is not None], [b for b in best if b is not None])
    assert ends is not None, "there are values"
    low, high = padded(ends)
    traces = [
        line(
            list(range(1, len(rows) + 1)),
            best,
            "best so far",
            GOOD,
            line={"shape": "hv"},
            hoverinfo="skip",
            hovertemplate=None,
        )
    ]
    traces += [of_kind(sweep, rows, kind, low if sweep.maximize else high) for kind in LOOKS]
    shown = [trace for trace in traces if trace["x"]]
    known = all(row.ended is not None for row in rows)
    title = "job, in order of its end" if known else "job, by number"
    return figure(
        *shown,
        title=sweep.objective,
        x=axis(title, integers=[1, len(rows)]),
        y=axis(tickformat="~g", range=[low, high]),
    )


def in_order(rows: Sequence[Row]) -> list[Row]:
    """The jobs that ended, by the time of their end; as they are, if the times are unknown."""
    if any(row.ended is None for row in rows if row.status != "unfinished"):
        return list(rows)
    return sorted((row for row in rows if row.ended is not None), key=lambda row: row.ended or 0.0)


def running_best(sweep: Collected, rows: Sequence[Row]) -> list[float | None]:
    """The best objective after every job, of jobs that trained to their end."""
    best: float | None = None
    found = []
    for row in rows:
        if row.counts and row.value is not None:
            best = row.value if best is None else max(best, row.value, key=lambda v: sweep.sign * v)
        found.append(best)
    return found


def kind_of(row: Row) -> str:
    """How a job ended, a key of ``LOOKS``."""
    return (
        "complete"
        if row.counts
        else "lost"
        if row.status in ("failed", "diverged") or (row.value is None and row.status == "completed")
        else "cut"
    )


def of_kind(sweep: Collected, rows: Sequence[Row], kind: str, edge: float) -> Trace:
    """The jobs with one kind of end; those without a result stand at the edge of the figure."""
    mine = [
        (i + 1, row) for i, row in enumerate(rows) if kind_of(row) == kind and (row.value is not None or kind == "lost")
    ]
    tone, symbol, name = LOOKS[kind]
    y = [edge if row.value is None else row.value for _, row in mine]
    look: dict[str, Any] = {"marker": {"symbol": symbol, "size": 7}, "cliponaxis": False, "hovertemplate": "%{text}"}
    return points([i for i, _ in mine], y, name, tone, texts=[of_job(sweep, row) for _, row in mine], **look)
