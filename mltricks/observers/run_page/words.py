"""Numbers in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(0.4213), duration(75), duration(7500)
    ('0.42 s', '1 min 15 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
