"""The interval of a share of samples, such as an accuracy. Without torch: pages of finished runs show it too."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""Quantile of the normal distribution for intervals that cover 95 %."""


def wilson(hits: int, total: int, z: float = Z95) -> tuple[float, float]:
    """The interval of a share: Wilson 1927. It is never empty and never leaves [0, 1]. Without samples it is [0, 1].

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if total == 0:
        return 0.0, 1.0
    share, room = hits / total, z * z / total
    middle = (share + room / 2) / (1 + room)
    half = z / (1 + room) * math.sqrt(share * (1 - share) / total + room / (4 * total))
    return middle - half if hits else 0.0, middle + half if hits < total else 1.0
