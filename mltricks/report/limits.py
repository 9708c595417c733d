"""Limits of a setting: the range of its class, or else that of the comment in its option's file; and its scale."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mltricks.config.cards import read_card, read_values
from mltricks.config.options import TECHNIQUE_GROUPS, conf_dir
from mltricks.report.bounds import bounds_of
from mltricks.sweep.ranges import NUMBER, Choices, Span, parse_comment

WITHIN = re.compile(rf"\bin ([\[(])({NUMBER}), ({NUMBER})([\])])")
ABOVE = re.compile(rf"(>=?) ({NUMBER})")


@dataclass(frozen=True)
class Limits:
    """Limits of a number.

    Attributes:
        low, high: smallest and largest value.
        has_low, has_high: whether that value itself is allowed.
        log: whether the option's file gives it a logarithmic span, or choices with equal ratios.
        whole: whether it is an integer; ``None`` if unknown.
    """

    low: float = -math.inf
    high: float = math.inf
    has_low: bool = False
    has_high: bool = False
    log: bool = False
    whole: bool | None = None

    def clip(self, value: float, best: float, whole: bool) -> float:
        """The value clipped to the limits; if the end is not allowed, nine tenths of the way to it."""
        if whole:
            inside = (math.floor(self.low) + (not self.has_low)) if self.low > -math.inf else round(value)
            return max(round(value), inside) if value < best else min(round(value), self.high)
        if value <= self.low:
            return self.low if self.has_low else self.low + (best - self.low) / 10
        if value >= self.high:
            return self.high if self.has_high else self.high - (self.high - best) / 10
        return value


def limits_of(key: str, tried: list[float], config: Any = None) -> Limits:
    """The limits of a setting; where neither its class nor a comment says any, the common sign of all values tried.

    Args:
        key: as ``optim.lr``.
        tried: the values tried, in ascending order.
        config: the configuration of a job, whose nodes name their classes; ``None`` if it is unknown.
    """
    text = meaning(key)
    domain = parse_comment(text)
    log = domain.log if isinstance(domain, Span) else isinstance(domain, Choices) and are_geometric(domain.values)
    whole = domain.whole if isinstance(domain, Span) else None
    bounds, is_int = bounds_of(key, config)
    whole = is_int if is_int is not None else whole
    if bounds is not None:
        ends = not bounds.above and bounds.low > -math.inf, not bounds.below and bounds.high < math.inf
        return Limits(bounds.low, bounds.high, *ends, log, whole)
    if found := WITHIN.search(text):
        opened, low, high, closed = found.groups()
        return Limits(float(low), float(high), opened == "[", closed == "]", log, whole)
    if found := ABOVE.search(text):
        return Limits(float(found[2]), math.inf, found[1] == ">=", False, log, whole)
    return Limits(0.0, math.inf, tried[0] == 0, False, log, whole) if tried[0] >= 0 else Limits(log=log, whole=whole)


def are_geometric(values: Sequence[Any]) -> bool:
    """Whether choices are at least three positive numbers with equal ratios.

    >>> are_geometric((8, 16, 32)), are_geometric((2, 3, 4)), are_geometric(("max", "mean"))
    (True, False, False)
    """
    if len(values) < 3 or not all(isinstance(v, int | float) and v > 0 for v in values):
        return False
    ratios = [b / a for a, b in itertools.pairwise(values)]
    return ratios[0] > 1 and max(ratios) < 1.01 * min(ratios)


@functools.cache
def meaning(key: str) -> str:
    """The comment on a setting, from the first option that has one; empty if there is none."""
    group, _, setting = key.partition(".")
    groups = TECHNIQUE_GROUPS if group in TECHNIQUE_GROUPS else [group]
    paths = (path for name in groups for path in sorted((conf_dir() / name).glob("[!_]*.yaml")))
    read = (read_card(path).values for path in paths)  # one by one, since each takes some milliseconds
    found = read if setting else [read_values((conf_dir() / "config.yaml").read_text(), "")]
    return next((text for values in found for name, _, text in values if name == key and text), "")
