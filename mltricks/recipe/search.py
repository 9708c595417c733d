"""The search space of the recipe: a domain for each setting, random points in it, and points near a given one."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from mltricks.sweep.ranges import Domain, Span

Point = dict[str, float | str]
"""A value for every searched setting: a number from a span, text from choices."""
Domains = dict[str, Domain]
SPREAD = 0.12
"""Standard deviation of nearby points, as a fraction of a span."""


def random_points(domains: Domains, num: int, seed: str) -> list[Point]:
    """Stratified random points: equal parts of a span get equally many, in log space for logarithmic spans.

    Args:
        domains: the search space.
        num: number of points.
        seed: any text; equal seeds give equal points.
    """
    rng = random.Random(seed)
    columns = {}
    for key, domain in domains.items():
        places = [(i + rng.random()) / num for i in range(num)]
        rng.shuffle(places)
        columns[key] = [at(domain, place) for place in places]
    return [{key: column[i] for key, column in columns.items()} for i in range(num)]


def near(domains: Domains, centre: Point, num: int, seed: str) -> list[Point]:
    """The point itself and ``num - 1`` others around it."""
    rng = random.Random(seed)
    points = [dict(centre)]
    while len(points) < num:
        point: Point = {}
        for key, domain in domains.items():
            if isinstance(domain, Span):
                point[key] = at(domain, place(domain, float(centre[key])) + rng.gauss(0.0, SPREAD))
            else:
                point[key] = centre[key] if rng.random() < 0.7 else at(domain, rng.random())
        points.append(point)
    return points


def at(domain: Domain, share: float) -> float | str:
    """The value at a relative position in a domain, in [0, 1]; positions outside give the nearest end.

    >>> at(Span(0.001, 0.1, log=True), 0.5)
    0.01
    """
    share = min(max(share, 0.0), 1.0)
    if not isinstance(domain, Span):
        index = min(int(share * len(domain.values)), len(domain.values) - 1)
        return domain.text(domain.values[index])
    if domain.log:
        value = math.exp(math.log(domain.low) + share * (math.log(domain.high) - math.log(domain.low)))
    else:
        value = domain.low + share * (domain.high - domain.low)
    return round(value) if domain.whole else float(f"{value:.3g}")


def place(domain: Span, value: float) -> float:
    """The relative position of a value in a span: 0 at the lower end, 1 at the upper.

    >>> round(place(Span(0.001, 0.1, log=True), 0.01), 6)
    0.5
    """
    if domain.log:
        return (math.log(value) - math.log(domain.low)) / (math.log(domain.high) - math.log(domain.low))
    return (value - domain.low) / (domain.high - domain.low)


def edges(domains: Domains, point: Point, margin: float = 0.1) -> list[str]:
    """The settings whose value is near an end of its span."""
    inside = [(key, d, point[key]) for key, d in domains.items() if isinstance(d, Span)]
    return [key for key, d, value in inside if not margin <= place(d, float(value)) <= 1 - margin]


def text(value: float | str) -> str:
    """A value as it stands in an override."""
    return value if isinstance(value, str) else f"{value:.6g}"


def widened(domains: Domains, keys: Sequence[str], factor: float = 3.0) -> Domains:
    """The same domains, with the logarithmic spans of ``keys`` widened by ``factor`` at both ends."""
    result = dict(domains)
    for key in keys:
        domain = domains[key]
        if isinstance(domain, Span) and domain.log:
            result[key] = Span(domain.low / factor, domain.high * factor, True)
    return result
