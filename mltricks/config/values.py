"""Types and ranges of hyperparameters, checked once when the run is built.

The type aliases below carry the allowed range of a field. ``check_fields`` reads the range from the annotation, so it
is written once, where the field is declared. Schedules may drive the fields typed ``float``, and no others.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
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
def field_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _options(hint: Any) -> list[tuple[Any, Range | None]]:
    """The alternatives of a type hint, each with its range."""
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        bounds = next((e for e in extras if isinstance(e, Range)), None)
        return [(kind, inner or bounds) for kind, inner in _options(hint)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [part for option in typing.get_args(hint) for part in _options(option)]
    return [(hint, None)]


def kinds_and_range(hint: Any) -> tuple[tuple[Any, ...], Range | None]:
    """The plain types of a type hint, and its range."""
    options = _options(hint)
    return tuple(kind for kind, _ in options), next((bounds for _, bounds in options if bounds is not None), None)


def float_fields(cls: Any) -> dict[str, Any]:
    """The float hyperparameters of a class: its fields typed ``float`` or optional ``float``, with their annotations.

    Only these may be scheduled and may differ between the trials of a stack; they are inputs of the step.
    """
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        return {}
    hints = field_hints(cls)
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(cls)
        if field.init and set(kinds_and_range(hints[field.name])[0]) - {types.NoneType} == {float}
    }


def check_value(key: str, value: Any, hint: Any) -> None:
    """Refuse a value of the wrong type or out of range.

    An ``int`` is accepted as a ``float``; a ``bool`` as neither; NaN and infinities never. The members of lists and
    tuples are checked one by one. Types that this module does not know are not checked.

    Raises:
        ValueError: names the key, the value, the allowed values and, unless the range is open, a value to type instead.
    """
    parts = _options(hint)
    if not all(_is_known(kind) for kind, _ in parts):
        return
    fitting = [(kind, bounds) for kind, bounds in parts if _is_a(value, kind)]
    if not fitting:
        _refuse_type(key, value, parts)
    for kind, bounds in fitting:
        if isinstance(value, int | float) and bounds is not None and value not in bounds:
            example = _example(bounds, value, kind is int)
            advice = "" if example is None else f"; for instance {key}={example}"
            raise ValueError(f"{key}={value} is out of range. Allowed: {bounds}{advice}.")
        if typing.get_origin(kind) in SEQUENCES:
            for i, (item, item_hint) in enumerate(_items(key, value, kind)):
                check_value(f"{key}[{i}]", item, item_hint)


def check_values(settings: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """``check_value`` for every setting that has a hint; the rest of ``settings`` is not checked."""
    for name, hint in hints.items():
        check_value(name, settings[name], hint)


SEQUENCES = (list, tuple, Sequence)
PLAIN = {float: "a number", int: "an integer", bool: "true or false", str: "a text", types.NoneType: "null"}


def _is_known(kind: Any) -> bool:
    return kind in PLAIN or typing.get_origin(kind) in (*SEQUENCES, typing.Literal, dict)


def _is_a(value: Any, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return any(value == option and type(value) is type(option) for option in typing.get_args(kind))
    if origin in SEQUENCES:
        return isinstance(value, list | tuple)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


def _refuse_type(key: str, value: Any, parts: list[tuple[Any, Range | None]]) -> typing.NoReturn:
    options = [
        str(option)
        for kind, _ in parts
        if typing.get_origin(kind) is typing.Literal
        for option in typing.get_args(kind)
    ]
    if options:
        others = [name for kind, name in PLAIN.items() if any(part is kind for part, _ in parts)]
        others += ["a list"] if any(typing.get_origin(kind) in SEQUENCES for kind, _ in parts) else []
        near = suggest(str(value), options) if isinstance(value, str) else ""
        near = f" {near}" if near.startswith("Did") else ""
        raise ValueError(f"{key}={value} is not an option. Allowed: {' | '.join([*options, *others])}.{near}")
    names = " or ".join(
        PLAIN.get(kind, "a mapping" if typing.get_origin(kind) is dict else "a list") for kind, _ in parts
    )
    limits = next((f" Allowed: {bounds}." for _, bounds in parts if bounds is not None), "")
    finite = ", and finite" if isinstance(value, float) and not math.isfinite(value) else ""
    shown = repr(value) if isinstance(value, str) else "null" if value is None else value
    how = f" Type {key}=a+b, or {key}=none." if any(_holds_names(kind) for kind, _ in parts) else ""
    raise ValueError(f"{key}={shown} must be {names}{finite}.{limits}{how}")


def _holds_names(kind: Any) -> bool:
    """Whether a kind is a list of texts."""
    return typing.get_origin(kind) in SEQUENCES and str in kinds_and_range(typing.get_args(kind)[0])[0]


def _items(key: str, value: Sequence[Any], kind: Any) -> list[tuple[Any, Any]]:
    """Every member of a list or tuple with its type hint."""
    hints = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and Ellipsis not in hints:
        if len(value) != len(hints):
            raise ValueError(f"{key}={value} must have {len(hints)} members, and has {len(value)}.")
        return list(zip(value, hints, strict=True))
    return [(item, hints[0]) for item in value]


def _example(bounds: Range, value: float, whole: bool) -> str | None:
    """An allowed number for the message: the nearest one, or the middle of a range of floats without its end.

    ``None`` for an open range of floats without its end: 1 is no advice for a learning rate.
    """
    low, high = bounds.low, bounds.high
    end, inward = (low, low + 1) if value <= low else (high, high - 1)
    candidates = [end, inward if whole else (low + high) / 2]
    found = (c for c in candidates if math.isfinite(c) and c in bounds and not (whole and c != round(c)))
    example = next(found, None)
    return None if example is None else str(round(example)) if whole else f"{example:g}"


def check_fields(owner: Any, prefix: str = "") -> None:
    """Check every field of a dataclass instance against its annotation; ``prefix`` precedes the names in messages."""
    cls: Any = type(owner)
    for field in dataclasses.fields(owner):
        if field.init:
            check_value(prefix + field.name, getattr(owner, field.name), field_hints(cls)[field.name])


class UnknownName(ValueError):
    """A name on the command line or in a configuration is unknown, mostly because of a typing error."""


def suggest(word: str, known: Iterable[str]) -> str:
    """A sentence with the known names nearest to ``word``, or with all names if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Known: {', '.join(names)}." if names else ""
