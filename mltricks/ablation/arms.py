"""The arms of an ablation and the comparisons between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mltricks.ablation.factors import Factor, shown_part

Mode = Literal["drop", "add", "all", "select"]
Arm = tuple[str, ...]
"""The parts that an arm is trained with, in the order of the command: techniques, ``augment=X``, and alternatives of
factors, as ``optim=adamw``."""


@dataclass(frozen=True)
class Comparison:
    """Two arms that differ in one part, or in all.

    Attributes:
        name: what is compared, as ``mixup alone``, ``optim=adamw instead of sgd`` or ``all together``.
        treated: the arm with it.
        control: the arm without it, or with the first value of its factor.
        part: the part in which they differ; empty if they differ in several.
        rival: the first value of the part's factor; empty if the part is no alternative.
    """

    name: str
    treated: Arm
    control: Arm
    part: str = ""
    rival: str = ""


def comparisons(mode: Mode, parts: tuple[str, ...], factors: Sequence[Factor] = ()) -> list[Comparison]:
    """The comparisons of a mode. Factors have their first value in every arm but that of the alternative.

    Args:
        mode: which arms are compared.
        parts: what can be left out.
        factors: the keys with several values.

    >>> [(c.treated, c.control) for c in comparisons("drop", ("a", "b"))]
    [(('a', 'b'), ('b',)), (('a', 'b'), ('a',))]
    >>> [(c.treated, c.control) for c in comparisons("add", ("a", "b"))]
    [(('a',), ()), (('b',), ())]
    >>> [(c.treated, c.control) for c in comparisons("drop", ("a",), [Factor("optim", ("sgd", "lion"))])]
    [(('a',), ()), (('a', 'optim=lion'), ('a',))]
    """
    several = mode == "all" and len(parts) > 1
    found = []
    if mode != "drop":
        added = [Comparison(f"{p} alone", (p,), (), p) for p in parts]
        found += [*added, *instead(factors, (), " alone" if parts and mode == "all" else "")]
    if mode == "drop" or several:
        found += [Comparison(f"{p} with all others", parts, tuple(q for q in parts if q != p), p) for p in parts]
    if mode == "drop" or (mode == "all" and parts):
        found += instead(factors, parts, " with all others" if mode == "all" else "")
    return [*found, *([Comparison("all together", parts, ())] if several else [])]


def instead(factors: Sequence[Factor], base: Arm, context: str) -> list[Comparison]:
    """Every alternative of every factor against its first value, both in addition to ``base``.

    Args:
        factors: the keys with several values.
        base: the parts that both arms have.
        context: ends the names, where an alternative is compared several times.
    """
    return [
        Comparison(f"{instead_name(part, factor)}{context}", (*base, part), base, part, factor.control_value)
        for factor in factors
        for part in factor.alternatives
    ]


def instead_name(part: str, factor: Factor) -> str:
    """What an alternative is compared with.

    >>> instead_name("optim=lion", Factor("optim", ("sgd", "lion")))
    'optim=lion instead of sgd'
    """
    return f"{shown_part(part)} instead of {factor.control_value}"


def arm_name(arm: Arm) -> str:
    """The name of an arm: its parts, or ``none``."""
    return " + ".join(map(shown_part, arm)) if arm else "none"


def distinct(compared: Sequence[Comparison]) -> list[Arm]:
    """Every arm that is needed, without duplicates, in order."""
    arms: dict[Arm, Any] = {}
    for c in compared:
        arms |= {c.control: None, c.treated: None}
    return list(arms)
