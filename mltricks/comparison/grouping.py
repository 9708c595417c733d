"""Groups runs to configurations: runs that differ only in seeds and folds are one, and equal runs count once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mltricks.comparison.entry import Entry
from mltricks.config.options import GROUPS

LONGEST = 16
"""Characters of a configuration's label."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Configuration:
    """Runs that differ only in their seeds and folds.

    Attributes:
        entries: the runs, in order.
        counted: one for each seed; the others repeat these.
        repeats: pairs of a run that is not counted and the one that it repeats.
    """

    entries: tuple[Entry, ...]
    counted: tuple[Entry, ...]
    repeats: tuple[tuple[Entry, Entry], ...]

    @property
    def settings(self) -> dict[str, Any]:
        return self.entries[0].settings

    @property
    def whole(self) -> list[Entry]:
        """The counted runs that trained to their end."""
        return [entry for entry in self.counted if entry.counts]


@dataclass(frozen=True)
class Difference:
    """A setting in which configurations differ, with the value of each as text; ``-`` where it has no such setting."""

    key: str
    values: tuple[str, ...]


def configurations(entries: Sequence[Entry]) -> list[Configuration]:
    """The configurations, in the order of their first runs."""
    found: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        found.setdefault(tuple(sorted((k, repr(v)) for k, v in entry.settings.items())), []).append(entry)
    return [one_configuration(members) for members in found.values()]


def one_configuration(entries: Sequence[Entry]) -> Configuration:
    """A configuration; of runs with the same seed, the first counts that trained to its end."""
    by_seed: dict[str, list[Entry]] = {}
    for entry in entries:
        by_seed.setdefault(entry.seed, []).append(entry)
    chosen = {seed: next((e for e in same if e.counts), same[0]) for seed, same in by_seed.items()}
    repeats = [(entry, chosen[entry.seed]) for entry in entries if entry is not chosen[entry.seed]]
    return Configuration(tuple(entries), tuple(chosen.values()), tuple(repeats))


def differences(found: Sequence[Configuration]) -> list[Difference]:
    """The settings in which configurations differ: options first, then their settings.

    A setting that only one of two different options has is shown if a command names it: else ``optim=sgd`` beside
    ``optim=adamw`` would bring every default of both.
    """
    keys = list(dict.fromkeys(key for one in found for key in one.settings))
    named = {text.lstrip("+~").partition("=")[0] for one in found for e in one.entries for text in e.summary.overrides}
    differing = [key for key in keys if len({repr(one.settings.get(key, "-")) for one in found}) > 1]
    kept = [key for key in differing if key in named or not follows(key, found)]
    ordered = sorted(kept, key=lambda key: "." in key)
    return [Difference(key, tuple(text(one.settings.get(key, "-")) for one in found)) for key in ordered]


def follows(key: str, found: Sequence[Configuration]) -> bool:
    """Whether a setting is missing in some configurations only because their option is another one."""
    parts = key.split(".")
    owner = ".".join(parts[:2]) if parts[0] == "technique" else parts[0]
    others = len({one.settings.get(owner) for one in found}) > 1
    missing = any(key not in one.settings for one in found)
    return missing and others and "." in key


def text(value: Any) -> str:
    """A value as the command line has it.

    >>> [text(value) for value in (None, True, 0.003, 1e6, "mixup+ema")]
    ['null', 'true', '0.003', '1e+06', 'mixup+ema']
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    brief = f"{value:g}" if isinstance(value, float) else str(value)
    return brief if not isinstance(value, float) or float(brief) == value else repr(value)


def labels(found: Sequence[Configuration], different: Sequence[Difference]) -> list[str]:
    """A short name for each configuration: that of its runs, or the values in which they differ, or else a letter."""
    names = [one.entries[0].summary.name or "" for one in found]
    said = [" ".join(worded(row, i) for row in different) for i in range(len(found))]
    for tried in (names, said):
        if all(tried) and len(set(tried)) == len(found) and max(map(len, tried)) <= LONGEST:
            return tried
    return [LETTERS[i] if len(found) <= len(LETTERS) else f"#{i + 1}" for i in range(len(found))]


def worded(row: Difference, i: int) -> str:
    """A difference in a label: an option by its name, a setting with the last part of its key.

    >>> worded(Difference("optim.lr", ("0.1", "0.2")), 0), worded(Difference("model", ("mlp", "fcn")), 1)
    ('lr=0.1', 'fcn')
    """
    value, last = row.values[i], row.key.rpartition(".")[2]
    return value if row.key in GROUPS else f"{last}={value}"
