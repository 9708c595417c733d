"""The command of an ablation, taken apart: what can be left out, what has several values, and what every arm has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mltricks.ablation.arms import Arm, Mode
from mltricks.ablation.factors import Factor, read_factor, shown_part
from mltricks.config.options import TECHNIQUE_GROUPS
from mltricks.config.overrides import choices, parse


@dataclass(frozen=True)
class Design:
    """The parsed command of an ablation.

    Attributes:
        parts: what can be left out: each technique of the list, and ``augment=X`` and ``regularizer=X`` if typed.
        fixed: the other overrides, which every arm has.
        base_seed: the first of the paired seeds.
        brings: the techniques that each part, and each value of a factor, brings into the list.
        factors: the keys with several values.
        lacks: for values of factors: the settings of the command that this option does not have.
    """

    parts: tuple[str, ...]
    fixed: tuple[str, ...]
    base_seed: int
    brings: Mapping[str, frozenset[str]]
    factors: tuple[Factor, ...] = ()
    lacks: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def alternatives(self) -> dict[str, Factor]:
        """The factor of every alternative."""
        return {part: factor for factor in self.factors for part in factor.alternatives}

    def values(self, arm: Arm) -> list[str]:
        """The override of every factor in an arm: the alternative that it has, else the control."""
        return [next((p for p in factor.alternatives if p in arm), factor.control) for factor in self.factors]

    def overrides(self, arm: Arm) -> list[str]:
        """The overrides of an arm, without its seed and without settings that it does not have."""
        kept = [text for text in self.fixed if self.has(arm, key_of(text))]
        values = [text for text in self.values(arm) if self.has(arm, key_of(text))]
        groups = [part for part in arm if is_option(part) and part not in self.alternatives]
        techniques = [part for part in arm if not is_option(part)]
        listed = any(not is_option(part) for part in self.parts)
        return [*groups, *values, *([f"technique=[{','.join(techniques)}]"] if listed else []), *kept]

    def missing(self, arm: Arm) -> frozenset[str]:
        """The techniques of the command that an arm does not have."""
        present = frozenset[str]().union(*(self.brings[part] for part in (*arm, *self.values(arm))))
        return frozenset[str]().union(*self.brings.values()) - present

    def has(self, arm: Arm, key: str) -> bool:
        """Whether an arm has a setting: no technique or option that the arm does without owns it."""
        lost = any(key in self.lacks.get(value, ()) for value in self.values(arm))
        return not lost and not is_setting_of(key, self.missing(arm))

    def name(self, arm: Arm) -> str:
        """The name of an arm: its parts and the value of every factor, or ``none``."""
        parts = [part for part in arm if part not in self.alternatives]
        return " + ".join(map(shown_part, [*parts, *self.values(arm)])) or "none"


def read_design(arguments: Sequence[str], folders: Sequence[Path]) -> Design:
    """Parse a command; of two overrides of a key, the last counts.

    Args:
        arguments: the overrides of the command.
        folders: folders of options: ``conf`` and the user's own.

    Raises:
        ValueError: values of a key cannot be compared, or there is nothing to compare.
    """
    last = {override.get_key_element(): override for override in parse(arguments)}
    parts: list[str] = []
    fixed: list[str] = []
    factors: list[Factor] = []
    base_seed = 0
    for key, override in last.items():
        if override.is_sweep_override():
            factors.append(read_factor(override))
        elif key in TECHNIQUE_GROUPS:
            names = [name for name in choices(override.value()) if name != "none"]
            parts += names if key == "technique" else [f"{key}={name}" for name in names]
        elif key == "seed":
            base_seed = int(override.value())
        else:
            fixed.append(override.input_line)
    if not parts and not factors:
        raise ValueError(
            "an ablation needs something to leave out or to compare. Type technique=mixup+ema, augment=crop, or a key "
            "with several values, the control first: optim=sgd,adamw."
        )
    owners = [*parts, *(text for factor in factors for text in factor.overrides)]
    return Design(tuple(parts), tuple(fixed), base_seed, {p: brings(p, folders) for p in owners}, tuple(factors))


def check_mode(design: Design, mode: Mode) -> None:
    """Refuse a factor whose values would change nothing in some arms that compare them.

    Raises:
        ValueError: a setting of a technique or option has several values, and an arm that compares them lacks it.
    """
    for factor in design.factors:
        key, text = key_of(factor.control), f"{factor.key}={','.join(map(shown_value, factor.overrides))}"
        for value, lacking in design.lacks.items():
            if key in lacking:
                raise ValueError(
                    f"{text}: {shown_part(value)} has no such setting. Compare its values in an ablation of their own."
                )
        if mode != "drop" and is_setting_of(key, frozenset(design.parts)):
            raise ValueError(
                f"{text}: with mode={mode} some arms lack the technique, so its values would change nothing there. "
                "Type mode=drop."
            )


def shown_value(override: str) -> str:
    """The value of an override as a user types it."""
    return shown_part(override).partition("=")[2]


def is_option(part: str) -> bool:
    """Whether a part is an override, and no item of ``technique=...``."""
    return "=" in part


def key_of(text: str) -> str:
    """The key of an override."""
    return text.partition("=")[0].lstrip("+~")


def is_setting_of(text: str, techniques: frozenset[str]) -> bool:
    """Whether an override or its key is a setting of one of these techniques.

    >>> is_setting_of("technique.mixup.alpha=0.2", frozenset(["mixup"]))
    True
    """
    path = key_of(text).split(".")
    return len(path) > 2 and path[0] == "technique" and path[1] in techniques


def brings(part: str, folders: Sequence[Path]) -> frozenset[str]:
    """The techniques that a part puts into the list, itself or through the defaults list of its option."""
    group, _, name = part.rpartition("=")
    if not group:
        return frozenset([part])
    if group not in TECHNIQUE_GROUPS:
        return frozenset()
    names = name.strip("[]").split(",")
    if group == "technique":
        return frozenset(filter(None, names))
    return frozenset[str]().union(*(listed_in(group, option, folders) for option in names))


def listed_in(group: str, option: str, folders: Sequence[Path]) -> frozenset[str]:
    """The techniques that the file of an option lists."""
    import yaml

    path = next((p for folder in folders if (p := folder / group / f"{option}.yaml").is_file()), None)
    content = yaml.safe_load(path.read_text()) if path is not None else None
    defaults = [entry for entry in (content or {}).get("defaults", []) if "technique/" in str(entry)]
    return frozenset([*(str(e).rpartition("/")[2] for e in defaults), *(content or {}).get("technique", {})])
