"""The arms of an ablation: the command with some of its techniques left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mltricks.config.names import shown
from mltricks.config.options import TECHNIQUE_GROUPS
from mltricks.config.overrides import choices, parse

Mode = Literal["drop", "add", "all", "select"]
Arm = tuple[str, ...]
"""The parts (techniques or ``augment=X``) that an arm is trained with, in the order of the command."""


@dataclass(frozen=True)
class Comparison:
    """Two arms that differ in one part, or in all.

    Attributes:
        name: what is compared, as ``mixup alone`` or ``all together``.
        treated: the arm with it.
        control: the arm without it.
    """

    name: str
    treated: Arm
    control: Arm


@dataclass(frozen=True)
class Design:
    """The parsed command of an ablation.

    Attributes:
        parts: what can be left out: each technique of the list, and ``augment=X`` and ``regularizer=X`` if typed.
        fixed: the other overrides, which every arm has.
        base_seed: the first of the paired seeds.
        brings: the techniques that each part brings into the list.
    """

    parts: tuple[str, ...]
    fixed: tuple[str, ...]
    base_seed: int
    brings: dict[str, frozenset[str]]

    def overrides(self, arm: Arm) -> list[str]:
        """The overrides of an arm, without its seed and without settings of techniques that it does not have."""
        lost = self.missing(arm)
        kept = [text for text in self.fixed if not is_setting_of(text, lost)]
        techniques = [part for part in arm if "=" not in part]
        groups = [part for part in arm if "=" in part]
        return [*groups, f"technique=[{','.join(techniques)}]", *kept]

    def missing(self, arm: Arm) -> frozenset[str]:
        """The techniques of the command that an arm does not have."""
        present = frozenset[str]().union(*(self.brings[part] for part in arm))
        return frozenset[str]().union(*self.brings.values()) - present


def is_setting_of(text: str, techniques: frozenset[str]) -> bool:
    """Whether an override is a setting of one of these techniques.

    >>> is_setting_of("technique.mixup.alpha=0.2", frozenset(["mixup"]))
    True
    """
    path = text.partition("=")[0].lstrip("+").split(".")
    return len(path) > 2 and path[0] == "technique" and path[1] in techniques


def read_design(arguments: Sequence[str], folders: Sequence[Path]) -> Design:
    """Parse a command.

    Args:
        arguments: the overrides of the command.
        folders: folders of options: ``conf`` and the user's own.

    Raises:
        ValueError: a value is swept, or there is nothing to leave out.
    """
    groups: dict[str, list[str]] = {}
    fixed, base_seed = [], 0
    for override in parse(arguments):
        text, key = shown(override), override.key_or_group
        if override.is_sweep_override():
            raise ValueError(f"{text}: an ablation compares arms at one value of every key. Type one value of {key}.")
        if key in TECHNIQUE_GROUPS:
            names = [name for name in choices(override.value()) if name != "none"]
            groups[key] = names if key == "technique" else [f"{key}={name}" for name in names]
        elif key == "seed":
            base_seed = int(override.value())
        else:
            fixed.append(override.input_line)
    parts = [name for names in groups.values() for name in names]
    if not parts:
        raise ValueError("an ablation needs something to leave out. Type technique=mixup+ema, augment=crop or both.")
    return Design(tuple(parts), tuple(fixed), base_seed, {part: _brings(part, folders) for part in parts})


def _brings(part: str, folders: Sequence[Path]) -> frozenset[str]:
    """The techniques that a part puts into the list, itself or through the defaults list of its option."""
    group, _, name = part.rpartition("=")
    if not group:
        return frozenset([part])
    import yaml

    path = next((p for folder in folders if (p := folder / group / f"{name}.yaml").is_file()), None)
    content = yaml.safe_load(path.read_text()) if path is not None else {}
    listed = [str(entry).rpartition("/")[2] for entry in content.get("defaults", []) if "technique/" in str(entry)]
    return frozenset([*listed, *content.get("technique", {})])


def comparisons(mode: Mode, parts: tuple[str, ...]) -> list[Comparison]:
    """The comparisons of a mode.

    >>> [(c.treated, c.control) for c in comparisons("drop", ("a", "b"))]
    [(('a', 'b'), ('b',)), (('a', 'b'), ('a',))]
    >>> [(c.treated, c.control) for c in comparisons("add", ("a", "b"))]
    [(('a',), ()), (('b',), ())]
    """
    dropped = [Comparison(f"{p} with all others", parts, tuple(q for q in parts if q != p)) for p in parts]
    added = [Comparison(f"{p} alone", (p,), ()) for p in parts]
    if mode == "drop":
        return dropped
    if mode == "add":
        return added
    whole = [Comparison("all together", parts, ())] if len(parts) > 1 else []
    return [*added, *(dropped if len(parts) > 1 else []), *whole]


def arm_name(arm: Arm) -> str:
    """The name of an arm: its parts, or ``none``."""
    return " + ".join(arm) if arm else "none"


def distinct(compared: Sequence[Comparison]) -> list[Arm]:
    """Every arm that is needed, without duplicates, in order."""
    arms: dict[Arm, Any] = {}
    for c in compared:
        arms |= {c.control: None, c.treated: None}
    return list(arms)
