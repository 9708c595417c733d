"""Figures of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mltricks.figures.base import Figure, axis, color, figure, points, shorten

MOST_NAMES = 20
"""Most groups that a legend names."""
NAMES = ("first", "second")


def feature_map(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[str]]], shares: Sequence[float]
) -> Figure:
    """Points in a plane, a colour for each group.

    Args:
        groups: by name: both coordinates and a text for each point.
        shares: of the variance along both axes.
    """
    many = len(groups) > MOST_NAMES
    traces = [
        points(x, y, "" if many else shorten(name), color(i), texts=texts, marker={"size": 5})
        for i, (name, (x, y, texts)) in enumerate(groups.items())
    ]
    titles = [f"{name} component, {share:.0%} of the variance" for name, share in zip(NAMES, shares, strict=True)]
    return figure(*traces, x=axis(titles[0]), y=axis(titles[1]), height=420)
