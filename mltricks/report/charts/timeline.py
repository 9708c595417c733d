"""The timeline of a sweep: which process ran which job, and when."""

from __future__ import annotations

from typing import Any

from mltricks.figures.base import Figure, Trace, axis, figure, text
from mltricks.report.charts.history import LOOKS, kind_of
from mltricks.report.charts.words import of_job
from mltricks.report.collect import Collected, Row

LANE = 26
"""Pixels of each process."""
UNITS = ((7200.0, 3600.0, "h"), (300.0, 60.0, "min"), (0.0, 1.0, "s"))
"""From how many seconds on an axis has which unit."""


def timeline(sweep: Collected) -> Figure | None:
    """A row for each process, a bar for each job; ``None`` if no job has recorded its start and end."""
    timed = [row for row in sweep.rows if row.started is not None and row.ended is not None]
    if not timed:
        return None
    lanes = by_worker(timed)
    first = min(row.started or 0.0 for row in timed)
    length = max(row.ended or 0.0 for row in timed) - first
    _, divisor, unit = next(u for u in UNITS if length >= u[0])
    bars = {kind: Bars(kind) for kind in LOOKS}
    for lane, rows in enumerate(lanes):
        for row, place, count in stacked(rows):
            bars[kind_of(row)].add(sweep, row, lane, place, count, first, divisor)
    traces = [bar.trace for bar in bars.values() if bar.trace["x"]]
    names = {"tickvals": list(range(len(lanes))), "ticktext": [f"process {i + 1}" for i in range(len(lanes))]}
    y = axis(showgrid=False, range=[len(lanes) - 0.5, -0.5]) | names
    return figure(
        *traces, x=axis("time since the first job", unit), y=y, height=90 + LANE * max(len(lanes), 2), barmode="overlay"
    )


class Bars:
    """The bars of one kind of end, as one trace."""

    def __init__(self, kind: str) -> None:
        tone, _, name = LOOKS[kind]
        look = {"color": tone, "line": {"width": 0.5, "color": "rgba(255,255,255,0.7)"}}
        self.trace: Trace = {"type": "bar", "orientation": "h", "name": name, "showlegend": True, "marker": look}
        self.trace |= {key: [] for key in ("base", "x", "y", "width", "hovertext", "offset")}
        self.trace["hovertemplate"] = "%{hovertext}<extra></extra>"

    def add(self, sweep: Collected, row: Row, lane: int, place: int, count: int, first: float, unit: float) -> None:
        """A job in a lane, in the ``place``-th of ``count`` parts of its height."""
        start, end = row.started or 0.0, row.ended or 0.0
        width = 0.8 / count
        added: dict[str, Any] = {"base": (start - first) / unit, "x": (end - start) / unit, "y": lane}
        added |= {"width": width, "offset": -0.4 + place * width, "hovertext": text(of_job(sweep, row))}
        for key, value in added.items():
            self.trace[key].append(round(value, 6) if isinstance(value, float) else value)


def by_worker(rows: list[Row]) -> list[list[Row]]:
    """The jobs of every process, by the start of its first job; jobs in order of their start."""
    found: dict[int | None, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.started or 0.0):
        found.setdefault(row.worker, []).append(row)
    return list(found.values())


def stacked(rows: list[Row]) -> list[tuple[Row, int, int]]:
    """Every job with its part of the lane: jobs that ran at the same time were a stack, and share the height."""
    found: list[tuple[Row, int, int]] = []
    together: list[Row] = []
    end = 0.0
    for row in [*rows, None]:
        if row is None or (row.started or 0.0) >= end:
            found += [(one, place, len(together)) for place, one in enumerate(together)]
            together = []
        if row is not None:
            together.append(row)
            end = max(end, row.ended or 0.0) if len(together) > 1 else row.ended or 0.0
    return found
