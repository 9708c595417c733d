"""Checks of the settings of the sweeper ``ablation``."""

from __future__ import annotations

from typing import Annotated, Any

from mltricks.ablation.arms import Mode
from mltricks.config.values import Count, Range, check_values

AtLeastTwo = Annotated[int, Range(2)]
HINTS: dict[str, Any] = {
    "mode": Mode,
    "seeds": AtLeastTwo,
    "retune": list[str],
    "retune_trials": AtLeastTwo,
    "retune_seeds": Count,
    "first_seeds": AtLeastTwo,
    "level": Annotated[float, Range(0.0, 1.0, above=True, below=True)],
}


def check(settings: dict[str, Any]) -> None:
    """Refuse values of the wrong type or out of range.

    Raises:
        ValueError: names the setting, its value and the allowed values.
    """
    check_values(settings, HINTS)
