"""Every setting that exists, and the nearest one to a name that does not."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mltricks.config.cards import named_in_defaults, read_card, read_values
from mltricks.config.options import GROUPS, SWEEPS, conf_dir
from mltricks.config.overrides import choices
from mltricks.config.settings import default_options
from mltricks.config.shorthand import owners, short

OF_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
NEAR = 0.7
"""Least similarity of a name that is suggested."""


@dataclass(frozen=True)
class Setting:
    """A setting of one option, or a top-level key, whose option is empty.

    Attributes:
        key: the full key, as ``optim.lr``.
        typed: the shortest form of the key.
        option: the option that has it, as ``optim=adamw``.
        default: as in its YAML file.
        meaning: the comment beside it.
        target: the class that receives it; empty if none does.
    """

    key: str
    typed: str
    option: str
    default: str
    meaning: str
    target: str = ""


@functools.cache
def all_settings(folders: tuple[Path, ...]) -> tuple[Setting, ...]:
    """The top-level keys, then the settings of every option, the default option of a group first."""
    return tuple(read_settings(folders))


def read_settings(folders: Sequence[Path]) -> Iterator[Setting]:
    text = (conf_dir() / "config.yaml").read_text(encoding="utf-8")
    for key, default, meaning in read_values(text, ""):
        if key in OF_FOLDERS or (key not in GROUPS and not key.startswith("hydra.")):
            yield Setting(key, key, "", default, meaning)
    for group in (*GROUPS, *SWEEPS):
        files = {path.stem: path for folder in folders for path in sorted((folder / group).glob("[!_]*.yaml"))}
        for name in sorted(files, key=lambda name: not is_default(f"{group}={name}")):
            path = files[name]
            for key, default, meaning in read_card(path, folders).values:
                if group == "experiment" and key.startswith("stages."):
                    continue  # the stages of an experiment are its content; what they set is explained elsewhere
                yield Setting(*name_of(group, name, key), f"{group}={name}", default, meaning, target_of(path))


def name_of(group: str, name: str, key: str) -> tuple[str, str]:
    """The full and the shortest key of a setting whose card has ``key``."""
    if name not in owners() or owners()[name].group != group:
        return key, key
    return key, short(name, key.removeprefix(f"{group.replace('/', '.')}."))


def target_of(path: Path) -> str:
    """The class that an option's file names first, or that of the option of its group that it includes."""
    text = path.read_text(encoding="utf-8")
    found = re.search(r"^ *_target_: ([\w.]+)", text, re.MULTILINE)
    if found:
        return found[1]
    beside = (path.with_name(f"{part}.yaml") for part in named_in_defaults(text) if not part.startswith("_"))
    return next((target_of(family) for family in beside if family.is_file()), "")


def is_default(option: str) -> bool:
    group, _, name = option.partition("=")
    return default_options().get(group) == name


def nearest(word: str, folders: Sequence[Path], chosen: Collection[str]) -> str:
    """A sentence with the settings or options that a mistyped key may mean; empty without any.

    An option comes first if its name is the word or begins the key. A setting whose last name is the word comes next:
    ``lr`` means ``optim.lr``; then similar names. Settings of chosen options come before those of others.

    Args:
        word: the key as typed.
        folders: the folders of options.
        chosen: the options of the command, as ``optim=sgd``.
    """
    group, first = difflib.get_close_matches(word, GROUPS, n=1, cutoff=NEAR), word.partition(".")[0]
    having = [f"{group}={first}" for group in GROUPS if first in options_of(group, folders)]
    found = having if first == word else []
    found = found or [described(s, chosen) for s in near_settings(word, folders, chosen)]
    found = [*group, *found][: 2 if group else 3]
    return f"Did you mean {' or '.join(found)}?" if found else ""


def near_settings(word: str, folders: Sequence[Path], chosen: Collection[str]) -> list[Setting]:
    """The settings that a mistyped key may mean, the most likely first; at most three."""
    settings = [s for s in all_settings(tuple(folders)) if fits(s, chosen)]
    settings.sort(key=lambda s: s.option not in chosen and bool(s.option))
    last = word.rpartition(".")[2]
    same = [s for s in settings if s.typed.rpartition(".")[2] == last]
    same.sort(key=lambda s: not beside(word, s))
    whole = difflib.get_close_matches(word, {s.typed for s in settings}, n=2, cutoff=NEAR) if "." in word else []
    ends = difflib.get_close_matches(last, {s.typed.rpartition(".")[2] for s in settings}, n=2, cutoff=NEAR)
    similar = [s for s in settings if s.typed in whole] or [
        s for end in ends for s in settings if s.typed.rpartition(".")[2] == end
    ]
    rest = same or similar
    taken = {s.typed for s in rest if s.option in chosen or not s.option}  # these need no other option
    named = {(s.typed, "" if s.typed in taken else s.option): s for s in reversed(rest)}
    return [s for s in rest if s in named.values()][:3]


def beside(word: str, setting: Setting) -> bool:
    """Whether a word with dots names the group or the option that has the setting: ``mixup.alpha``."""
    return bool(set(word.split(".")[:-1]) & set(re.split(r"[.=]", f"{setting.typed}.{setting.option}")))


def options_of(group: str, folders: Sequence[Path]) -> list[str]:
    """The options of a group, without private files."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("[!_]*.yaml")})


def fits(setting: Setting, chosen: Collection[str]) -> bool:
    """Whether a command takes a setting: those of jobs, sweepers and launchers only where they are chosen."""
    group = setting.option.partition("=")[0]
    return group not in ("job", *SWEEPS, "experiment") or setting.option in chosen


def described(setting: Setting, chosen: Collection[str]) -> str:
    """A key with its default, and the option that has it if the command does not choose it."""
    option = "" if not setting.option or setting.option in chosen else f"{setting.option} "
    return f"{option}{setting.typed} (default {setting.default})"


def chosen_options(overrides: Sequence[Any], sweeps: bool) -> set[str]:
    """The options that a command chooses, defaults included, as ``optim=sgd``.

    Args:
        overrides: parsed by Hydra's grammar.
        sweeps: whether it defines a sweep, which has a sweeper and a launcher.
    """
    groups: dict[str, list[str]] = {group: [option] for group, option in default_options().items()}
    for override in overrides:
        if override.key_or_group in (*GROUPS, *SWEEPS) and not override.is_delete():
            groups[override.key_or_group] = [str(name) for name in choices(override.value())]
    return {f"{g}={name}" for g, names in groups.items() for name in names if sweeps or g not in SWEEPS}


def inside(group: str, word: str, folders: Sequence[Path]) -> str:
    """The overrides that choose a name which options of the group take: ``model=torchvision model.name=resnet50``.

    Empty if no option knows the name. The card of such an option has a field ``Names``: the function that lists them.
    """
    found = []
    for path in (path for folder in folders for path in sorted((folder / group).glob("[!_]*.yaml"))):
        source = read_card(path, folders).fields.get("Names")
        names = {} if source is None else {name.lower(): name for name in names_by(source)}
        if word.lower() in names:
            found.append(f"{group}={path.stem} {group}.name={names[word.lower()]}")
    return " or ".join(found)


def names_by(source: str) -> Sequence[str]:
    """The names that a function of ours lists, given by its dotted path; none if a package is not installed."""
    module, _, name = source.rpartition(".")
    if not module.startswith("mltricks."):
        return ()
    try:
        found: Sequence[str] = getattr(import_module(module), name)()
    except ImportError:
        return ()
    return found
