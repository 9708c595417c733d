"""The importance of each key as bars with errors, and the objective over the two most important numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mltricks.figures.base import GREY, SERIES, Figure, axis, bars, figure, names_axis
from mltricks.report.importance import Share


def importance_bars(shares: Sequence[Share], seeds: Sequence[str] = ()) -> Figure:
    """Lying bars, the largest at the top; the bars of seeds are grey, since they show how large noise is."""
    names = [share.key for share in shares]
    ends = [share.value + share.error for share in shares]
    heights = [share.value for share in shares]
    tones = [GREY if share.key in seeds else SERIES[0] for share in shares]
    look: dict[str, Any] = {
        "error_x": {"type": "data", "array": [share.error for share in shares]},
        "marker": {"color": tones},
    }
    trace = bars(list(range(len(names))), heights, orientation="h", **look)
    trace["hovertemplate"] = "%{x:.3f}<extra></extra>"
    y = names_axis(names, autorange="reversed")
    x = axis("importance", range=[0, max(1.05 * max(ends), 1e-3)])
    return figure(trace, x=x, y=y, height=70 + 30 * len(names))
