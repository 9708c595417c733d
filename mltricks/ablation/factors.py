"""Factors: keys that the command gives several values. The first value is the control, the others are alternatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mltricks.config.names import shown, without_brackets
from mltricks.sweep.measured import FOLD, is_measure
from mltricks.sweep.ranges import listed, text_of

LENGTHS = ("epochs", "max_steps", "early_stopping")
"""Keys that change how long an arm is trained."""


@dataclass(frozen=True)
class Factor:
    """A key with several values.

    Attributes:
        key: as typed, with a ``+`` if it adds a setting.
        values: its values in Hydra's override grammar, the control first.
    """

    key: str
    values: tuple[str, ...]

    @property
    def overrides(self) -> tuple[str, ...]:
        """An override for every value, the control first."""
        return tuple(f"{self.key}={value}" for value in self.values)

    @property
    def control(self) -> str:
        """The override of the first value."""
        return self.overrides[0]

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The overrides of the other values: parts of an arm."""
        return self.overrides[1:]

    @property
    def control_value(self) -> str:
        """The first value as a user types it."""
        return shown_part(self.control).partition("=")[2]


def read_factor(override: Any) -> Factor:
    """The factor of an override that sweeps.

    Raises:
        ValueError: arms with different values cannot be compared, or the values are not listed one by one.
    """
    text, key = shown(override), override.get_key_element()
    if reason := why_not(key.lstrip("+")):
        raise ValueError(f"{text}: {reason}")
    kind = override.value_type.name
    if kind not in ("CHOICE_SWEEP", "SIMPLE_CHOICE_SWEEP", "RANGE_SWEEP"):
        raise ValueError(f"{text}: an ablation compares single values. Type them, the control first: {key}=A,B.")
    values = tuple(text_of(value) for value in listed(override))
    if len(values) < 2 or len(set(values)) < len(values):
        raise ValueError(f"{text}: an ablation compares different values. Type two or more, the control first.")
    return Factor(key, values)


def why_not(key: str) -> str:
    """The reason why arms with different values of a key cannot be compared; empty if they can."""
    if key == "seed":
        return "every arm is trained with the same seeds: seed, seed + 1, ... Type seed=0 and seeds=3."
    if key == FOLD:
        return (
            "every arm is trained with the same seeds on one fold. Type data.fold=0, or cross-validate the arms as a "
            "grid: -m technique=none,A,B data.fold=0,1,2."
        )
    if key.partition(".")[0] in LENGTHS:
        return f"all arms have the same budget. Type one value of {key}, or compare lengths with hydra/sweeper=grid."
    if is_measure(key):
        return f"arms are compared on the same test split and by the same metric. Type one value of {key}."
    return ""


def shown_part(part: str) -> str:
    """A part as a user types it.

    >>> shown_part("technique=[mixup,ema]"), shown_part("+model.width=32")
    ('technique=mixup+ema', 'model.width=32')
    """
    return without_brackets(part).lstrip("+")
