"""The types of hyperparameters: what a configuration value may be, checked once when the run is built.

A field typed with one of the aliases below carries its allowed range; ``check_fields`` reads it from the annotation, so
a range is stated once, where the field is declared. Fields whose type is a ``float`` are the ones a schedule may drive.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """An interval of allowed numbers; ``above`` makes the lower end exclusive, ``below`` the upper one."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return over and under

    def __str__(self) -> str:
        low = "" if self.low == -math.inf else f"{self.low:g} {'<' if self.above else '<='} "
        high = "" if self.high == math.inf else f" {'<' if self.below else '<='} {self.high:g}"
        return f"{low}value{high}"


Probability = Annotated[float, Range(0.0, 1.0)]
Decay = Annotated[float, Range(0.0, 1.0, below=True)]
Positive = Annotated[float, Range(0.0, above=True)]
NonNegative = Annotated[float, Range(0.0)]
Fraction = Annotated[float, Range(0.0, 1.0, above=True)]
Count = Annotated[int, Range(1)]
Size = Annotated[int, Range(0)]


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _parts(hint: Any) -> tuple[tuple[type, ...], Range | None]:
    """The plain types a hint admits, and its range."""
    bounds = None
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        bounds = next((e for e in extras if isinstance(e, Range)), None)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        pairs = [_parts(h) for h in typing.get_args(hint)]
        return tuple(t for ts, _ in pairs for t in ts), bounds or next((b for _, b in pairs if b), None)
    if typing.get_origin(hint) is typing.Literal:
        return (hint,), None
    return (typing.get_origin(hint) or hint,), bounds


def float_fields(cls: type) -> list[str]:
    """The fields of a dataclass that a schedule may drive: those typed ``float``, in order of declaration."""
    return [f.name for f in dataclasses.fields(cls) if f.init and _parts(_hints(cls)[f.name])[0] == (float,)]


def check_value(key: str, value: Any, hint: Any) -> None:
    """Refuse a value of the wrong type or out of range.

    Raises:
        ValueError: names the key, the value, what is allowed, and what to type instead.
    """
    kinds, bounds = _parts(hint)
    for kind in kinds:
        if typing.get_origin(kind) is typing.Literal and value not in (options := typing.get_args(kind)):
            listed = " | ".join(map(str, options))
            raise ValueError(f"{key}={value} is not an option. Allowed: {listed}. {suggest(str(value), map(str, options))}")
    plain = {float: (float, int), int: (int,), bool: (bool,), str: (str,), types.NoneType: (types.NoneType,)}
    if not all(k in plain for k in kinds):
        return
    accepted = tuple(t for k in kinds for t in plain[k])
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("null" if k is types.NoneType else k.__name__ for k in kinds)
        raise ValueError(f"{key}={value!r} must be of type {names}.")
    if bounds is not None and value is not None and not isinstance(value, str) and value not in bounds:
        example = bounds.high if value > bounds.high and bounds.high < math.inf else bounds.low
        example = example if example in bounds else (bounds.low + min(bounds.high, bounds.low + 1.0)) / 2
        raise ValueError(f"{key}={value} is out of range. Allowed: {bounds}; for instance {key}={example:g}.")


def check_fields(owner: Any, prefix: str = "") -> None:
    """Check every field of a dataclass instance against its annotation; ``prefix`` is put in front of the names."""
    cls = type(owner)
    for field in dataclasses.fields(owner):
        if field.init:
            check_value(prefix + field.name, getattr(owner, field.name), _hints(cls)[field.name])


def suggest(word: str, known: Iterable[str]) -> str:
    """A sentence with the names nearest to ``word``, or all of them where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Known: {', '.join(names)}." if names else ""
