"""Domains of swept settings: choices, steps or a span, read from an override or from the comment in an option's file.

A comment has ``search: 1e-4 to 1e-2`` or ``search: choices 16, 32, 64``. Numbers without a point are integers. A range
of a decade or more is searched on a log scale.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mltricks.config.names import shown

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
INTERVAL = re.compile(rf"search: ({NUMBER}) to ({NUMBER})\s*(?:;|$)")
CHOICES = re.compile(r"search: choices ([^;]+)")
DECADE = 10.0


@dataclass(frozen=True)
class Choices:
    """A list of values to choose from.

    Args:
        values: the values as a study stores them: numbers, strings, booleans, ``None``; lists as text.
        texts: the same values in Hydra's override grammar.
    """

    values: tuple[Any, ...]
    texts: tuple[str, ...]

    def suggest(self, trial: Any, name: str) -> str:
        """Draw a value for a trial; return it in Hydra's override grammar."""
        return self.text(trial.suggest_categorical(name, self.values))

    def text(self, value: Any) -> str:
        """Write a value in Hydra's override grammar."""
        return self.texts[self.values.index(value)]

    def describe(self) -> dict[str, Any]:
        """The domain for the record of a study; two commands continue the same study only if it is equal."""
        return {"choices": list(self.texts)}


@dataclass(frozen=True)
class Steps:
    """Equally spaced numbers in ascending order: ``range(1,10,2)``."""

    values: tuple[int, ...] | tuple[float, ...]

    @property
    def step(self) -> int | float:
        """The distance between neighbours; 1 if there is only one value."""
        gap = Decimal(repr(self.values[1])) - Decimal(repr(self.values[0])) if len(self.values) > 1 else Decimal(1)
        return int(gap) if isinstance(self.values[0], int) else float(gap)

    def suggest(self, trial: Any, name: str) -> str:
        """Draw a value for a trial; return it in Hydra's override grammar."""
        low, high = self.values[0], self.values[-1]
        if isinstance(low, int):
            return self.text(trial.suggest_int(name, low, high, step=self.step))
        return self.text(trial.suggest_float(name, low, high, step=self.step))

    def text(self, value: float) -> str:
        """The nearest of the values, without the rounding error of low + i * step."""
        return repr(min(self.values, key=lambda v: abs(v - value)))

    def describe(self) -> dict[str, Any]:
        """The domain for the record of a study; two commands continue the same study only if it is equal."""
        return {"values": list(self.values)}


@dataclass(frozen=True)
class Span:
    """All numbers from ``low`` to ``high``, both included.

    Args:
        low, high: the ends; integers if ``whole``.
        log: draw uniformly on a log scale; requires ``low`` > 0.
        whole: draw integers only.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any, name: str) -> str:
        """Draw a value for a trial; return it in Hydra's override grammar."""
        draw = trial.suggest_int if self.whole else trial.suggest_float
        return self.text(draw(name, self.low, self.high, log=self.log))

    def text(self, value: float) -> str:
        """Write a value in Hydra's override grammar."""
        return repr(value)

    def describe(self) -> dict[str, Any]:
        """The domain for the record of a study; two commands continue the same study only if it is equal."""
        return {"low": self.low, "high": self.high, "log": self.log, "whole": self.whole}


Domain = Choices | Steps | Span


def ends(domain: Domain) -> list[Any]:
    """The values to check before a sweep begins: lowest and highest number, or all values if not all are numbers."""
    if isinstance(domain, Choices):
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in domain.values)
        return sorted({min(domain.values), max(domain.values)}) if numbers else list(domain.values)
    return [domain.low, domain.high] if isinstance(domain, Span) else [domain.values[0], domain.values[-1]]


def parse_comment(meaning: str) -> Domain | None:
    """Parse the search range in the comment of a setting; ``None`` if it has none.

    >>> parse_comment("learning rate, > 0; search: 1e-4 to 1e-2")
    Span(low=0.0001, high=0.01, log=True, whole=False)
    >>> parse_comment("pixels; search: 1 to 4")
    Span(low=1, high=4, log=False, whole=True)
    """
    if found := INTERVAL.search(meaning):
        whole = all(re.fullmatch(r"[+-]?\d+", text) for text in found.groups())
        low, high = (int(text) if whole else float(text) for text in found.groups())
        return Span(low, high, log=low > 0 and high / low >= DECADE, whole=whole)
    if listed := CHOICES.search(meaning):
        return domain_of_text(listed.group(1).strip())
    return None


def domain_of_text(text: str) -> Domain:
    """Parse the domain of values written after a key: ``16,32,64``."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return domain_of(OverridesParser.create().parse_override(f"key=choice({text})"))


def listed(override: Any) -> list[Any]:
    """The values of an override that sweeps over a list or a range, as Hydra parsed them.

    A pattern such as ``glob(*)`` matches options. Files that begin with an underscore are shared parts, not options.
    """
    is_pattern = override.value_type.name == "GLOB_CHOICE_SWEEP"
    return [value for value in override.sweep_iterator() if not (is_pattern and value.startswith("_"))]


def text_of(value: Any) -> str:
    """Write a value that Hydra parsed back in Hydra's override grammar."""
    from hydra.core.override_parser.types import Transformer

    return str(Transformer.str(value))


def domain_of(override: Any) -> Domain:
    """Return the domain of an override that sweeps.

    Args:
        override: Hydra's parsed override; parse it with the config loader if it may contain ``glob(*)``.

    Raises:
        ValueError: there are no values, a value appears twice, or the interval is invalid.
    """
    if override.is_interval_sweep():
        return _span(override)
    values = listed(override)
    if not values:
        raise ValueError(f"{shown(override)}: nothing to choose from. Give at least one value.")
    if override.is_range_sweep() and len(set(values)) == len(values):
        ordered = sorted(values)
        gaps = [b - a for a, b in itertools.pairwise(ordered)]
        if all(math.isclose(gap, gaps[0]) for gap in gaps):
            return Steps(tuple(ordered))
    return _choices(values, override)


def _span(override: Any) -> Span:
    sweep, line, key = override.value(), shown(override), override.get_key_element()
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if others := sweep.tags - {"log"}:
        raise ValueError(f"{line}: the tag {', '.join(sorted(others))} is unknown. Known: log.")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{line}: the ends must be numbers, the lower one first. Type {key}=interval(0.1,1).")
    if log and low <= 0:
        raise ValueError(
            f"{line}: a log scale excludes {low:g}. Type {key}=tag(log,interval({high / 1000:g},{high:g}))."
        )
    return Span(low, high, log, isinstance(low, int) and isinstance(high, int))


def _choices(values: list[Any], override: Any) -> Choices:
    texts = tuple(text_of(value) for value in values)
    if len(set(texts)) < len(texts):
        raise ValueError(f"{shown(override)}: a value appears twice. Give each once.")
    plain = tuple(_plain(v, text) for v, text in zip(values, texts, strict=True))
    return Choices(
        plain if len(set(plain)) == len(plain) else texts, texts
    )  # 1 == True in Python, so store them as text


def _plain(value: Any, text: str) -> Any:
    """A value as a study stores it, or its text if Optuna cannot store the value."""
    value = getattr(value, "text", value)  # a quoted string
    fits = value is None or isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))
    return value if fits else text
