"""Measured values, durations, paths and lines as a terminal of 80 columns shows them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from pathlib import Path

WIDTH = 80
"""Columns of a line where the output is no terminal."""


def number(value: float) -> str:
    """A measured value in at most 8 characters, with four significant digits or more where they fit.

    >>> [number(v) for v in (0.18484, 12.3456, 54321.0, 1234567.0, 2e-5, -1234567.0, 0.0)]
    ['0.1848', '12.346', '54321.0', '1.23e+06', '2.00e-05', '-1.2e+06', '0.0000']
    """
    size = abs(value)
    if value == 0 or 1e-3 <= size < 1e5:
        return f"{value:.{4 if size < 10 else 3 if size < 100 else 2 if size < 1000 else 1}f}"
    if not math.isfinite(value):
        return str(value)
    return f"{value:.{2 if value > 0 else 1}e}"


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds.

    >>> clock(3725.0)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """A duration in at most 7 characters, with its unit where it is no clock.

    >>> [duration(s) for s in (0.42, 59.94, 59.96, 3725.0, 40000.0, 1e6)]
    ['0.4 s', '59.9 s', '1:00', '1:02:05', '11h07m', '11d13h']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 36_000:
        return clock(seconds)
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours}h{rest:02d}m" if hours < 100 else f"{hours // 24}d{hours % 24:02d}h"


def about(seconds: float) -> str:
    """An estimated duration: without tenths of seconds.

    >>> [about(s) for s in (4.9, 3725.0, 40000.0)]
    ['0:05', '1:02:05', '11h07m']
    """
    return clock(seconds) if seconds < 36_000 else duration(seconds)


def wrapped(head: str, parts: Iterable[str], width: int, separator: str = "  ") -> list[str]:
    """Lines of at most ``width`` columns: a head and parts, which are broken only where one alone is too long.

    Later lines begin below the first part.

    >>> wrapped("#1  ", ["loss 0.5", "optim.lr=0.1", "seed=0"], 28)
    ['#1  loss 0.5  optim.lr=0.1', '    seed=0']
    """
    indent, lines, line = " " * len(head), [], head
    for part in parts:
        gap = "" if line in (head, indent) else separator
        if len(line) + len(gap) + len(part) <= width:
            line += gap + part
            continue
        lines += [line.rstrip()] if gap else []
        start = indent if gap else line
        *full, line = textwrap.wrap(
            part, max(width, len(head) + 10), initial_indent=start, subsequent_indent=indent, break_on_hyphens=False
        ) or [start]
        lines += full
    return [*lines, line.rstrip()]


def shown_folder(folder: Path) -> str:
    """A folder as a path to type: relative if it is below the working directory."""
    whole = folder.resolve()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(folder)
