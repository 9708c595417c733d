"""Short forms: ``n_trials=20`` for ``hydra.sweeper.n_trials=20``, ``num_steps=50`` for ``job.num_steps=50``.

One rule: a bare key that is no top-level key of the configuration is a setting of what the command runs, which is its
job and, with ``-m``, its sweeper and launcher. Where a top-level key has the same name, the owner stands in front:
``study.sampler=gp``, ``study.seed=1``. The full key always works. Options of third parties have no short form.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltricks.config.names import takes_names, without_brackets
from mltricks.config.options import GROUPS, conf_dir
from mltricks.config.overrides import parse, split_arguments
from mltricks.config.settings import top_level
from mltricks.config.values import UnknownName, suggest


@dataclass(frozen=True)
class Owner:
    """An option whose settings have short forms.

    Attributes:
        group: ``hydra/sweeper``, ``hydra/launcher`` or ``job``.
        name: of the option.
        settings: the names of its settings.
    """

    group: str
    name: str
    settings: tuple[str, ...]

    @property
    def choice(self) -> str:
        """The words of a command that choose the option."""
        return f"{'-m ' if self.group != 'job' else ''}{self.group}={self.name}"

    def full(self, setting: str) -> str:
        return f"{self.group.replace('/', '.')}.{setting}"


def expand(arguments: Sequence[str]) -> list[str]:
    """Expand the short forms in a command line.

    Raises:
        ValueError: a setting of an option that the command does not choose.
    """
    overrides, options = split_arguments(arguments)
    short = {text: found for text in overrides if (found := short_form(text)) is not None}
    if not short:
        return list(arguments)
    sweeps = bool({"-m", "--multirun"} & options.keys())
    chosen = chosen_options(overrides, sweeps)
    written = {text: write_out(text, *found, chosen) for text, found in short.items()}
    return [written.get(argument, argument) for argument in arguments]


def shorten(arguments: Sequence[str]) -> list[str]:
    """A command line with the short forms of its settings, for messages and pages: the inverse of ``expand``.

    >>> shorten(["-m", "hydra/sweeper=study", "hydra.sweeper.n_trials=20", "hydra.sweeper.sampler=gp"])
    ['-m', 'hydra/sweeper=study', 'n_trials=20', 'study.sampler=gp']
    """
    overrides, options = split_arguments(arguments)
    chosen = chosen_options(overrides, bool({"-m", "--multirun"} & options.keys()))
    ours = {f"{group.replace('/', '.')}.": owners()[name] for group, name in chosen.items() if name in owners()}
    return [shortened(argument, ours) for argument in arguments]


def shortened(argument: str, ours: dict[str, Owner]) -> str:
    """One argument with its short form, if it sets one of the chosen options, which are given by their full prefix."""
    for prefix, owner in ours.items():
        key, equals, value = argument.partition("=")
        setting = key.removeprefix(prefix)
        if equals and setting != key and setting.partition(".")[0] in owner.settings:
            return f"{short(owner.name, setting)}={value}"
    return argument


def short_form(text: str) -> tuple[str, str] | None:
    """The owner and the setting of a short form, or ``None``; the owner is empty if only the setting is named."""
    key = text.partition("=")[0]
    first, _, rest = key.partition(".")
    if "=" not in text or first == "hydra" or first in GROUPS or first in top_level():
        return None
    if rest and first in owners() and owners()[first].settings:
        return first, rest
    return ("", key) if any(first in owner.settings for owner in owners().values()) else None


def write_out(text: str, name: str, setting: str, chosen: dict[str, str]) -> str:
    """Expand one short form to the full override.

    Args:
        text: the override as typed.
        name: of the owner; empty if only the setting is named.
        setting: of the owner.
        chosen: the option of every group that has short forms.
    """
    first, as_typed = setting.partition(".")[0], without_brackets(text)
    having = [owners()[name]] if name else [o for o in owners().values() if first in o.settings]
    if name and first not in having[0].settings:
        raise UnknownName(
            f"{as_typed}: {first} is no setting of {having[0].group}={name}. {suggest(first, having[0].settings)}"
        )
    found = [owner for owner in having if chosen.get(owner.group) == owner.name]
    if not found:
        sweeper = chosen.get("hydra/sweeper", "")
        if sweeper not in ("", *owners()) and not name:
            raise ValueError(f"{as_typed}: hydra/sweeper={sweeper} has no short forms. Type hydra.sweeper.{as_typed}.")
        commands = " or ".join(f"python -m mltricks {owner.choice} {as_typed}" for owner in having)
        raise ValueError(
            f"{as_typed} is a setting of {' and '.join(f'{o.group}={o.name}' for o in having)}. Type {commands}."
        )
    value = text.partition("=")[2]
    written = f"{found[0].full(setting)}={value}"
    if found[0].group != "job" and parse([written])[0].is_sweep_override():
        key = text.partition("=")[0]
        one = f"{key}={as_typed.partition('=')[2].replace(',', '+')}" if takes_names(key) else f'"{key}=[{value}]"'
        raise ValueError(f"{as_typed}: a setting of the sweep has one value. Type {one} for a list.")
    return written


def chosen_options(overrides: Sequence[str], sweeps: bool) -> dict[str, str]:
    """The option of every group that has short forms, as a command chooses them."""
    found = {"job": ([o.partition("=")[2] for o in overrides if o.startswith("job=")] or ["train"])[-1]}
    if sweeps:
        launchers = [o.partition("=")[2] for o in overrides if o.startswith("hydra/launcher=")]
        found |= {"hydra/sweeper": chosen_sweeper(overrides), "hydra/launcher": [*["local"], *launchers][-1]}
    return found


def chosen_sweeper(overrides: Sequence[str]) -> str:
    """The sweeper of a command: from ``hydra/sweeper=``, from its experiment, or the default."""
    found = _override_of(conf_dir() / "config.yaml")
    for text in overrides:
        key, _, value = text.partition("=")
        if key == "experiment":
            found = _override_of(conf_dir() / "experiment" / f"{value}.yaml") or found
    typed = [text.partition("=")[2] for text in overrides if text.startswith("hydra/sweeper=")]
    return typed[-1] if typed else found or "basic"


def _override_of(path: Path) -> str | None:
    """The sweeper that a file's defaults list chooses."""
    content = _read(path) if path.is_file() else {}
    for entry in content.get("defaults", []):
        if isinstance(entry, dict):
            for key, value in entry.items():
                if key.removeprefix("override ").strip().lstrip("/") == "hydra/sweeper":
                    return str(value)
    return None


@functools.cache
def owners() -> dict[str, Owner]:
    """Our sweepers, launchers and jobs, by name; no two have the same."""
    paths = [
        (group, path)
        for group in ("hydra/sweeper", "hydra/launcher", "job")
        for path in sorted((conf_dir() / group).glob("[a-z]*.yaml"))
    ]
    return {
        path.stem: Owner(group, path.stem, tuple(key for key in _read(path) if key not in ("_target_", "defaults")))
        for group, path in paths
    }


def short(name: str, setting: str) -> str:
    """The shortest key of a setting of a sweeper, launcher or job that means nothing else.

    >>> short("study", "n_trials"), short("study", "sampler"), short("lr_find", "low")
    ('n_trials', 'study.sampler', 'low')
    """
    first = setting.partition(".")[0]
    return f"{name}.{setting}" if first in GROUPS or first in top_level() else setting


def _read(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open() as file:
        return yaml.load(file, loader) or {}
