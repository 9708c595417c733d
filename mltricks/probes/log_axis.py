"""Tick labels of a logarithmic axis as plain numbers instead of formulas."""

from __future__ import annotations

from typing import Any


def log_axis(axes: Any, which: str) -> None:
    """Make the ``x`` or ``y`` axis logarithmic."""
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: "")
