"""The overrides of the command line: split, parsed, read, and written as a user types them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mltricks.config.names import in_shell
from mltricks.config.options import GROUPS
from mltricks.config.slips import check_package

WITH_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p")
"""Hydra's options that take the next argument as their value."""


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
            if re.match(r"[^={]*[*?]", text):
                raise ValueError(
                    f"{text!r} cannot be read: a key has no * or ?. A pattern stands inside a value, as in "
                    '"optim.groups={head*: {lr: x2}}".'
                ) from error
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{text!r} cannot be read: {reason}. Quote a value that has special characters: \"KEY='VALUE'\"."
            ) from error
    return parsed


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


def quoted(text: str) -> str:
    """Quote a value so that Hydra's grammar reads it back unchanged: it unescapes backslashes only before a quote."""
    before_quotes = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", before_quotes) + "'"
