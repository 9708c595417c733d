"""Parameter groups: the parameters that a pattern matches get other floats of the optimiser.

``optim.groups={bias: {lr: x64, weight_decay: 0.0}}``: a number replaces the optimiser's own value, and a text such as
``x64`` multiplies it, whatever drives it. A learning rate given as a number follows the ``scheduler`` as the
optimiser's own does; the text ``constant`` is the optimiser's own learning rate, without the ``scheduler``.
``mltricks.optim.matching`` lists the patterns.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mltricks.config.options import option_of
from mltricks.config.values import check_value, kinds_and_range, suggest
from mltricks.optim.matching import WORDS, matching
from mltricks.technique import Params

EXAMPLE = "Type optim.groups={bias: {lr: x64}} or another pattern and float."

CONSTANT = "constant"
"""The text for the optimiser's own learning rate, which no scheduler drives."""


@dataclass(frozen=True)
class Change:
    """One float of one group.

    Attributes:
        pattern: of the parameters, as ``matching`` takes it.
        name: of the float.
        value: the number that replaces the optimiser's own, or ``None``.
        factor: the number that multiplies the optimiser's own, if ``value`` is ``None``.
        constant: whether the ``scheduler`` leaves the value as it is.
    """

    pattern: str
    name: str
    value: float | None
    factor: float = 1.0
    constant: bool = False

    @property
    def key(self) -> str:
        """Its key in the configuration."""
        return f"optim.{self.fed}"

    @property
    def fed(self) -> str:
        """The name under which a step feeds a scheduled value to the optimiser."""
        return f"groups.{self.pattern}.{self.name}"

    def of(self, optim: Any) -> Any:
        """The value in this group: a number, or a 0-d tensor where a tensor drives it."""
        if self.value is None:
            return getattr(optim, self.name) * self.factor
        return vars(optim).get(self.fed, self.value)


def parsed(
    groups: Mapping[str, Any] | None, fields: Mapping[str, Any], own: Mapping[str, Any], cls: type
) -> tuple[Change, ...]:
    """The changes of all groups.

    Args:
        groups: ``{PATTERN: {FLOAT: VALUE}}``.
        fields: the floats that a group may change, each with its type hint.
        own: the optimiser's own values.
        cls: its class, for messages.

    Raises:
        ValueError: an unknown float, or a value that is no number, no multiple, or out of range.
    """
    found = []
    for pattern, floats in (groups or {}).items():
        if not isinstance(floats, dict) or not floats:
            raise ValueError(f"optim.groups.{pattern}={floats} names no floats. {EXAMPLE}")
        for name, value in floats.items():
            if name not in fields:
                raise ValueError(
                    f"optim.groups.{pattern} has {name}, which is no float of optim={option_of('optim', cls)}. "
                    f"{suggest(str(name), fields)}"
                )
            if value == CONSTANT and name in getattr(cls, "learning_rates", ()):
                found.append(Change(str(pattern), name, float(own[name]), constant=True))
            else:
                found.append(change_of(str(pattern), name, value, fields[name], own.get(name)))
    return tuple(found)


def change_of(pattern: str, name: str, value: Any, hint: Any, own: Any) -> Change:
    """One change, from its value as typed.

    Args:
        pattern, name: of the change.
        value: a number, or a text such as ``x64``.
        hint: of the float.
        own: the optimiser's own value.
    """
    key, factor = f"optim.groups.{pattern}.{name}", multiple(value)
    if factor is None:
        if isinstance(value, str | dict | list) or value is None:
            raise ValueError(
                f"{key}={value} must be a number, or a text as x2 for twice the value of optim.{name}. "
                f"Type optim.groups={{{pattern}: {{{name}: x2}}}} or a number."
            )
        check_value(key, value, hint)
        return Change(pattern, name, float(value))
    if own is None:
        raise ValueError(f"{key}={value} multiplies optim.{name}, which is null. Type a number for one of them.")
    bounds = kinds_and_range(hint)[1]
    if bounds is not None and factor > 1 and bounds.high < math.inf:
        raise ValueError(
            f"{key}={value} could leave the range of optim.{name}, {bounds}, where a schedule drives it. Type a number."
        )
    check_value(f"{key}={value}, optim.{name} times {factor:g}: value", own * factor, hint)
    return Change(pattern, name, None, factor)


def multiple(value: Any) -> float | None:
    """The factor of a text such as ``x64``; ``None`` for everything else.

    >>> multiple("x64"), multiple("x1e-2"), multiple("64"), multiple(64), multiple("x-1")
    (64.0, 0.01, None, None, None)
    """
    if not isinstance(value, str) or not value.startswith("x"):
        return None
    try:
        factor = float(value[1:])
    except ValueError:
        return None
    return factor if 0 <= factor < math.inf else None


def patterns_of(changes: Sequence[Change], params: Params) -> dict[str, tuple[str, ...]]:
    """The patterns of the groups that each parameter belongs to, by its name."""
    found: dict[str, tuple[str, ...]] = {}
    for pattern in dict.fromkeys(change.pattern for change in changes):
        for name in matching([pattern], params):
            found[name] = (*found.get(name, ()), pattern)
    return found


def check_effects(changes: Sequence[Change], read: Mapping[str, Mapping[str, Collection[str]]]) -> None:
    """Refuse changes without effect, and two changes of one float of a parameter.

    Args:
        changes: of all groups.
        read: for every pattern the parameters that it matches, each with the floats that have an effect on it.

    Raises:
        ValueError: names the groups and a parameter.
    """
    given: dict[tuple[str, str], str] = {}
    for change in changes:
        names = read[change.pattern]
        if not names:
            near = f" {suggest(change.pattern, WORDS)}" if change.pattern not in WORDS else ""
            near = " The shifts of norms with frozen scales are bias." if change.pattern == "norm" else near
            raise ValueError(
                f"optim.groups has {change.pattern}, which matches no trained parameter of this model.{near}"
            )
        if all(change.name not in floats for floats in names.values()):
            other = " (they are without decay)" if change.name == "weight_decay" else ""
            known = sorted(set().union(*names.values()))
            raise ValueError(
                f"{change.key} has no effect on {next(iter(names))} and the other parameters of this group{other}. "
                f"These floats have: {', '.join(known)}."
            )
        for name in names:
            first = given.setdefault((name, change.name), change.pattern)
            if first != change.pattern:
                raise ValueError(
                    f"{name} is in two groups that set its {change.name}: {first} and {change.pattern}. "
                    "Type patterns that do not overlap."
                )
