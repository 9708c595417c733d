"""The candidate values of the settings that are tuned for each arm (``retune``).

Source: Sobol 1967. The values of one setting are evenly spaced; those of several are a scrambled Sobol sequence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from mltricks.ablation.arms import Arm
from mltricks.ablation.design import Design, key_of
from mltricks.sweep.ranges import Domain, Span
from mltricks.sweep.space import Space, read_space

Points = Callable[[Arm], list[list[str]]]
"""A function from an arm to its candidate points, each a list of overrides."""


def points_of(design: Design, retune: Sequence[str], count: int, place: Any) -> Points:
    """The candidates of each arm: ``count`` points over the ranges in the options' files, and the configured values.

    Args:
        design: the parsed command.
        retune: keys of the settings.
        count: number of points, besides the configured one.
        place: where the sweep runs.

    Returns:
        A function of the arm; an arm that has none of the settings has one point, the configured one.
    """

    def points(arm: Arm) -> list[list[str]]:
        keys = [key for key in retune if design.has(arm, key)]
        job = [text for text in design.overrides(arm) if key_of(text) not in keys]
        space = space_of(job, place, keys)
        domains = space.domains()
        found: list[list[str]] = [[]]
        for row in spread(len(domains), count):
            at = dict(zip(domains, row, strict=True))
            texts = space.overrides(functools.partial(pick, at))
            found.append([text for text in texts if key_of(text) in keys])
        return found

    return points if retune else lambda arm: [[]]


def space_of(job: list[str], place: Any, keys: list[str]) -> Space:
    """The spans of the settings of an arm.

    Raises:
        ValueError: as ``read_space``, with this sweeper's name for the setting (``retune``).
    """
    try:
        return read_space(job, place, keys)
    except ValueError as error:
        if not str(error).startswith("tune="):
            raise
        raise type(error)(f"re{error}") from error


def pick(at: dict[str, float], name: str, domain: Domain) -> str:
    """The value of a setting at a relative position in its span."""
    return value_at(domain, at[name])


def spread(num_settings: int, count: int) -> list[list[float]]:
    """Points in the unit cube, each a list of ``num_settings`` positions: for one setting both ends and even steps.

    >>> spread(1, 3)
    [[0.0], [0.5], [1.0]]
    """
    if num_settings == 0:
        return []
    if num_settings == 1:
        return [[i / (count - 1)] for i in range(count)]
    import torch

    return torch.quasirandom.SobolEngine(num_settings, scramble=True, seed=0).draw(count).tolist()


def value_at(domain: Domain, share: float) -> str:
    """The value at a relative position in a domain.

    >>> value_at(Span(0.01, 1.0, log=True), 0.5)
    '0.1'
    """
    if not isinstance(domain, Span):
        values = domain.values
        return domain.text(values[min(int(share * len(values)), len(values) - 1)])
    low, high = domain.low, domain.high
    value = low * (high / low) ** share if domain.log else low + (high - low) * share
    return domain.text(round(value) if domain.whole else float(f"{value:.6g}"))
