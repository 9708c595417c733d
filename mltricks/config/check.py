"""Check the overrides of the command line before composition.

Hydra lists all options for an unknown option, and advises to append an unknown key. These checks suggest the nearest
names instead, before an output folder exists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mltricks.config.known import chosen_options, inside, nearest
from mltricks.config.names import shown
from mltricks.config.overrides import choices, parse
from mltricks.config.settings import top_level
from mltricks.config.shorthand import owners, short
from mltricks.config.slips import check_parsed, check_single, check_text
from mltricks.config.values import UnknownName, suggest


def check_overrides(overrides: Sequence[str], folders: Sequence[Path | None], sweeps: bool = False) -> list[Any]:
    """Refuse groups, options and top-level keys that do not exist; return the parsed overrides.

    Args:
        overrides: as typed, without Hydra's own options.
        folders: the folders of options, ``conf`` and the user's own; ``None`` for an unreadable one, such as a package,
            which turns the check of option names off.
        sweeps: whether they define a sweep.

    Raises:
        UnknownName: suggests the nearest names.
        ValueError: an override cannot be parsed.
    """
    check_text(overrides)
    parsed = parse(overrides)
    check_parsed(parsed)
    readable = [folder for folder in folders if folder is not None]
    groups = {
        path.name for folder in readable for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._"
    }
    for override in parsed:
        name = override.key_or_group
        first = re.split(r"[./]", name)[0]
        if first == "hydra" or override.is_delete():
            continue
        if name in groups or any((folder / name).is_dir() for folder in readable):
            if len(readable) == len(folders):
                check_options(name, override, readable, sweeps)
        elif first not in groups | top_level().keys():
            raise UnknownName(unknown_key(shown(override), readable, groups, parsed, sweeps))
        elif "/" in name:
            raise UnknownName(f"{shown(override)}: there is no group {name}. {suggest(name, groups)}")
    if not sweeps:
        check_single(parsed)
    return parsed


def check_options(group: str, override: Any, folders: Sequence[Path], sweeps: bool) -> None:
    techniques = override.value()
    if isinstance(techniques, list) and len(set(map(str, techniques))) < len(techniques):
        raise ValueError(f"{shown(override)}: an option is in the list twice, but acts only once. Name it once.")
    found = {
        path.relative_to(folder / group).with_suffix("").as_posix()
        for folder in folders
        for path in (folder / group).rglob("*.y*ml")
        if not path.name.startswith("_")
    }
    if override.value() is None:
        nothing = "none" if group == "technique" else "none" if "none" in found else "OPTION, or leave it out"
        raise ValueError(f"{shown(override)}: null is no option of {group}. Type {group}={nothing}.")
    for option in choices(override.value()):
        if "${" not in option and not any((folder / group / f"{option}.yaml").is_file() for folder in folders):
            said = advice(group, option, found, folders, sweeps)
            raise UnknownName(f"{shown(override)}: {group} has no option {option}. {said}")


def advice(group: str, option: str, found: Collection[str], folders: Sequence[Path], sweeps: bool) -> str:
    """What to type instead of an option that does not exist.

    Args:
        group: of the option.
        option: as typed.
        found: the options of the group.
        folders: the folders of options.
        sweeps: whether the command defines a sweep.
    """
    if option == "none" and group == "technique":
        return "none is the empty list, and stands alone."
    if option.lower() in found:
        return f"Did you mean {option.lower()}?"
    for name in (name for name, owner in owners().items() if sweeps and group in owner.settings):
        return f"{suggest(option, found)} The {group} of hydra/sweeper={name} is typed {short(name, group)}={option}."
    named = inside(group, option, folders)
    return f"Type {named}." if named else suggest(option, found)


def unknown_key(typed: str, folders: Sequence[Path], groups: set[str], parsed: Sequence[Any], sweeps: bool) -> str:
    """The message for an override whose key does not exist."""
    key = typed.partition("=")[0].lstrip("+~")
    near = nearest(key, folders, chosen_options(parsed, sweeps))
    advice = near or f"Groups: {', '.join(sorted(groups - {'hydra'}))}. Type --help, or job=list for every option."
    return f"{typed}: {key} is no setting. {advice}"
