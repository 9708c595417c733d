"""A range of an axis that a few extreme values do not stretch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from mltricks.figures.base import finite

FENCE = 1.5
"""Distance from the quartiles, in interquartile ranges, beyond which a value is extreme (Tukey 1977)."""
PAD = 0.05
"""Free share of the axis beyond the outermost value."""


def usual(values: Iterable[float | None], keep: Iterable[float | None] = ()) -> tuple[float, float] | None:
    """The lowest and the highest value without extreme ones; ``None`` without a value.

    Args:
        values: the values to show.
        keep: values among them that are shown in any case.

    >>> usual([1, 2, 3, 4, 100]), usual([1, 2, 3, 4, 100], keep=[100])
    ((1, 4), (1, 100))
    """
    known = sorted(finite(values))
    if not known:
        return None
    low, high = quantile(known, 0.25), quantile(known, 0.75)
    reach = FENCE * (high - low)
    inside = [v for v in known if low - reach <= v <= high + reach]
    shown = [*inside, *finite(keep)]
    return min(shown), max(shown)


def quantile(known: Sequence[float], share: float) -> float:
    """The value below which a share of sorted values lies, interpolated."""
    place = share * (len(known) - 1)
    low = math.floor(place)
    return known[low] + (place - low) * (known[min(low + 1, len(known) - 1)] - known[low])


def padded(ends: tuple[float, float], log: bool = False) -> list[float]:
    """The ends of an axis around a range; exponents of ten for a logarithmic one."""
    low, high = (math.log10(end) if log else end for end in ends)
    pad = PAD * (high - low) or abs(low) * PAD or PAD
    return [low - pad, high + pad]


def num_outside(values: Iterable[float | None], ends: tuple[float, float]) -> int:
    """How many values a range leaves out."""
    return sum(not ends[0] <= v <= ends[1] for v in finite(values))
