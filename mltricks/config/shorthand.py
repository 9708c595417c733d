"""Short forms of a sweeper's settings, such as ``n_trials=20`` for ``hydra.sweeper.n_trials=20``.

With ``-m``, a key that is a setting of the chosen sweeper and no top-level key of the configuration means that setting.
``study.sampler=gp`` also names the sweeper, for settings that share the name of a top-level key. Settings of
third-party sweepers have no short form.
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
    """Expand the short forms in a command line.

    Raises:
        ValueError: a sweeper's setting without ``-m``, or a setting of a sweeper that is not chosen.
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
    """The sweeper and setting of a short form, or ``None``; the sweeper is empty if only the setting is named."""
    key = text.partition("=")[0]
    first, _, rest = key.partition(".")
    if "=" not in text or first == "hydra" or first in GROUPS or first in top_level():
        return None
    if rest and first in sweeper_settings():
        return first, rest
    return ("", key) if any(first in settings for settings in sweeper_settings().values()) else None


def write_out(text: str, owner: str, setting: str, sweeper: str, sweeps: bool) -> str:
    """Expand one short form to the full override."""
    known = sweeper_settings()
    if sweeper not in known and sweeps and not owner:
        raise ValueError(f"{text}: hydra/sweeper={sweeper} has no short forms. Type hydra.sweeper.{text}.")
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
def sweeper_settings() -> dict[str, tuple[str, ...]]:
    """The settings of each of our sweepers."""
    paths = sorted((conf_dir() / "hydra" / "sweeper").glob("[a-z]*.yaml"))
    return {path.stem: tuple(key for key in _read(path) if key not in ("_target_", "defaults")) for path in paths}


def bare_settings(overrides: Sequence[str], options: dict[str, str]) -> set[str]:
    """The short forms of the chosen sweeper's settings, to suggest for unknown keys."""
    if not {"-m", "--multirun"} & options.keys():
        return set()
    return set(sweeper_settings().get(chosen_sweeper(overrides), ())) - top_level().keys() - set(GROUPS)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open() as file:
        return yaml.load(file, loader) or {}
