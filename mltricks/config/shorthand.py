"""Short forms of the command: a sweeper's settings typed bare, as ``n_trials=20`` for ``hydra.sweeper.n_trials=20``.

With ``-m`` a key that is a setting of the chosen sweeper, and nothing at the top of the configuration, is that setting.
``study.sampler=gp`` names the sweeper too, which serves where the configuration has a key of the same name. Settings
of sweepers that are not ours are typed in full.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mltricks.config.options import GROUPS, conf_dir
from mltricks.config.overrides import parse, split_arguments
from mltricks.config.settings import top_level
from mltricks.config.values import UnknownName, suggest


def expand(arguments: Sequence[str]) -> list[str]:
    """A command line with its short forms written out.

    Raises:
        ValueError: a setting of a sweeper without ``-m``, or of another sweeper than the one chosen.
    """
    overrides, options = split_arguments(arguments)
    sweeps = bool({"-m", "--multirun"} & options.keys())
    short = {text: found for text in overrides if (found := short_form(text)) is not None}
    if not short:
        return list(arguments)
    sweeper = chosen_sweeper(overrides)
    written = {text: write_out(text, *found, sweeper, sweeps) for text, found in short.items()}
    return [written.get(argument, argument) for argument in arguments]


def short_form(text: str) -> tuple[str, str] | None:
    """Sweeper and setting that an override names in short; the sweeper is empty where only the setting is named."""
    key = text.partition("=")[0]
    first, _, rest = key.partition(".")
    if "=" not in text or first == "hydra" or first in GROUPS or first in top_level():
        return None
    if rest and first in sweeper_settings():
        return first, rest
    return ("", key) if any(first in settings for settings in sweeper_settings().values()) else None


def write_out(text: str, owner: str, setting: str, sweeper: str, sweeps: bool) -> str:
    """A short form as Hydra understands it."""
    known = sweeper_settings()
    if sweeper not in known and sweeps and not owner:
        raise ValueError(f"{text}: hydra/sweeper={sweeper} has its settings typed in full: hydra.sweeper.{text}.")
    first = setting.partition(".")[0]
    owners = [owner] if owner else [name for name, settings in known.items() if first in settings]
    if owner and first not in known[owner]:
        raise UnknownName(f"{text}: {first} is no setting of hydra/sweeper={owner}. {suggest(first, known[owner])}")
    if sweeper not in owners or not sweeps:
        which = "" if sweeper in owners else f" {' or '.join(f'hydra/sweeper={name}' for name in owners)}"
        wanted = f"{'' if sweeps else ' -m'}{which}"
        raise ValueError(f"{text} is a setting of a sweep. Type it with{wanted}: python -m mltricks -m{which} {text}.")
    value = text.partition("=")[2]
    written = f"hydra.sweeper.{setting}={value}"
    if parse([written])[0].is_sweep_override():
        raise ValueError(
            f"{text}: a setting of the sweep has one value. A list stands in brackets: {setting}=[{value}]."
        )
    return written


def chosen_sweeper(overrides: Sequence[str]) -> str:
    """The sweeper of a command: typed, or named by its experiment, or the default."""
    found = _override_of(conf_dir() / "config.yaml")
    for text in overrides:
        key, _, value = text.partition("=")
        if key == "experiment":
            found = _override_of(conf_dir() / "experiment" / f"{value}.yaml") or found
    typed = [text.partition("=")[2] for text in overrides if text.startswith("hydra/sweeper=")]
    return typed[-1] if typed else found or "basic"


def _override_of(path: Path) -> str | None:
    """The sweeper that a file's list of defaults chooses."""
    content = _read(path) if path.is_file() else {}
    for entry in content.get("defaults", []):
        if isinstance(entry, dict):
            for key, value in entry.items():
                if key.removeprefix("override ").strip().lstrip("/") == "hydra/sweeper":
                    return str(value)
    return None


@functools.cache
def sweeper_settings() -> dict[str, tuple[str, ...]]:
    """The settings of each of our sweepers."""
    paths = sorted((conf_dir() / "hydra" / "sweeper").glob("[a-z]*.yaml"))
    return {path.stem: tuple(key for key in _read(path) if key not in ("_target_", "defaults")) for path in paths}


def bare_settings(overrides: Sequence[str], options: dict[str, str]) -> set[str]:
    """What may be typed bare with the chosen sweeper: for messages about keys that there are not."""
    if not {"-m", "--multirun"} & options.keys():
        return set()
    return set(sweeper_settings().get(chosen_sweeper(overrides), ())) - top_level().keys() - set(GROUPS)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open() as file:
        return yaml.load(file, loader) or {}
