"""Check the overrides of the command line before composition.

Hydra lists all options for an unknown option, and advises to append an unknown key. These checks suggest the nearest
names instead, before an output folder exists.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from mltricks.config.options import GROUPS
from mltricks.config.slips import check_package, check_parsed, check_text
from mltricks.config.values import UnknownName, suggest

WITH_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p")
"""Hydra's options that take the next argument as their value."""
TECHNIQUE_GROUPS = ("augment", "regularizer", "technique")
"""Groups whose options add techniques to the step."""


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split a command line into overrides and Hydra's own options, which begin with a dash."""
    overrides, options = [], {}
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        name, _, value = argument.partition("=")
        options[name] = next(rest, "") if name in WITH_VALUE and not value else value
    return overrides, options


def parse(overrides: Sequence[str]) -> list[Any]:
    """Parse the overrides with Hydra's grammar.

    Raises:
        ValueError: an override is not of the form KEY=VALUE.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, parsed = OverridesParser.create(), []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            if "=" not in text:
                raise ValueError(
                    f"{text!r} is no override. Type KEY=VALUE, for instance technique=mixup or optim.lr=3e-3."
                ) from error
            if found := re.fullmatch(r"([^=]+)=choice\((.*\bnull\b.*)\)", text):
                raise ValueError(f"{text!r}: choice() takes no null. Type {found[1]}={found[2]}.") from error
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{text!r} cannot be read: {reason}. Quote a value that has special characters: \"KEY='VALUE'\"."
            ) from error
    return parsed


def check_overrides(
    overrides: Sequence[str], folders: Sequence[Path | None], others: Collection[str] = ()
) -> list[Any]:
    """Refuse groups, options and top-level keys that do not exist; return the parsed overrides.

    Args:
        overrides: as typed, without Hydra's own options.
        folders: the folders of options, ``conf`` and the user's own; ``None`` for an unreadable one, such as a package,
            which turns the check of option names off.
        others: further names to suggest for an unknown key.

    Raises:
        UnknownName: suggests the nearest names.
        ValueError: an override cannot be parsed.
    """
    from mltricks.config.settings import top_level

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
                _check_options(name, override, readable)
        elif first not in groups | top_level().keys():
            known = groups | top_level().keys() | set(others)
            raise UnknownName(f"{override.input_line}: {first} is no setting. {suggest(first, known)}")
        elif "/" in name:
            raise UnknownName(f"{override.input_line}: there is no group {name}. {suggest(name, groups)}")
    return parsed


def _check_options(group: str, override: Any, folders: Sequence[Path]) -> None:
    techniques = override.value()
    if isinstance(techniques, list) and len(set(map(str, techniques))) < len(techniques):
        raise ValueError(f"{override.input_line}: an option is in the list twice, but acts only once. Name it once.")
    found = {
        path.relative_to(folder / group).with_suffix("").as_posix()
        for folder in folders
        for path in (folder / group).rglob("*.y*ml")
        if not path.name.startswith("_")
    }
    if override.value() is None:
        nothing = "[]" if group == "technique" else "none" if "none" in found else "OPTION, or leave it out"
        raise ValueError(f"{override.input_line}: null is no option of {group}. Type {group}={nothing}.")
    for option in choices(override.value()):
        if "${" not in option and not any((folder / group / f"{option}.yaml").is_file() for folder in folders):
            raise UnknownName(f"{override.input_line}: {group} has no option {option}. {suggest(option, found)}")


def choices(value: Any) -> Iterator[str]:
    """Yield the option names in an override's value: one name, a list, or the choices of a sweep."""
    if hasattr(value, "list"):  # a sweep, choice(...)
        value = value.list
    if isinstance(value, list):
        for item in value:
            yield from choices(item)
    elif hasattr(value, "text"):  # a quoted string
        yield value.text
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def own_folders(overrides: Sequence[str], options: dict[str, str]) -> list[Path | None]:
    """The user's folders of options, from ``--config-dir`` and ``hydra.searchpath``; ``None`` for one in a package.

    Raises:
        ValueError: a folder does not exist.
    """
    named = [options[flag] for flag in ("--config-dir", "-cd") if flag in options]
    for override in parse([o for o in overrides if o.startswith("hydra.searchpath=")]):
        named += list(choices(override.value()))
    folders: list[Path | None] = []
    for name in named:
        folder = Path(name.removeprefix("file://"))
        check_package(str(name))
        if "://" in str(name) and not name.startswith("file://"):
            folders.append(None)
        elif not folder.is_dir():
            raise ValueError(f"{name} is no folder. --config-dir and hydra.searchpath take a folder laid out as conf/.")
        else:
            folders.append(folder)
    return folders


def is_setting(text: str) -> bool:
    """Whether an override as typed gives a setting of an option, without a ``+`` or ``~`` in front.

    A resumed run has options of its own, which Hydra does not compose: there such a setting is added with ``++``, and
    then compared with the run's.
    """
    key = text.partition("=")[0]
    return "=" in text and "." in key and key.partition(".")[0] in GROUPS


def typed(key: str, value: Any) -> str:
    """An override as a user types it in a shell, quoted where Hydra's grammar or the shell needs it."""
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z0-9_./:-]+", text) and parse([f"{key}={text}"])[0].value() == text
    if plain:
        return f"{key}={text}"
    return in_shell(f"{key}={quoted(text)}")


def in_shell(word: str) -> str:
    """A word as a user types it in a shell: in double quotes if it needs any and they do, which are easier to read.

    >>> in_shell("a=1"), in_shell("a=[1,2]"), in_shell("a=$b")
    ('a=1', '"a=[1,2]"', "'a=$b'")
    """
    return shlex.quote(word) if re.search(r'["$`\\!]', word) or shlex.quote(word) == word else f'"{word}"'


def quoted(text: str) -> str:
    """Quote a value so that Hydra's grammar reads it back unchanged: it unescapes backslashes only before a quote."""
    before_quotes = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", before_quotes) + "'"
