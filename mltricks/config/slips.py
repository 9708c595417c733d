"""Refuse overrides that Hydra accepts or answers with a raw error: each with the key, the value and the fix."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mltricks.config.names import shown, takes_names, without_brackets
from mltricks.config.options import GROUPS, TECHNIQUE_GROUPS
from mltricks.config.values import suggest

LONGEST, DEEPEST = 1000, 20
"""Characters of an override, and brackets inside each other, beyond which it is a slip."""
OF_HYDRA = (
    *("callbacks", "env", "help", "hydra_help", "hydra_logging", "job", "job_logging", "launcher", "mode"),
    *("output_subdir", "overrides", "run", "runtime", "searchpath", "sweep", "sweeper", "verbose"),
)
"""Keys directly below ``hydra``."""
FLAGS = (
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun"),
    *("-h", "-c", "-p", "-r", "-m", "-sc", "-cp", "-cn", "-cd", "-i"),
)
"""The flags of Hydra and ours."""


def check_text(overrides: Sequence[str]) -> None:
    """Refuse overrides by their text, before they are parsed.

    Raises:
        ValueError: one has no key, is too long, or nests too deep.
    """
    for text in overrides:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        if text.startswith("="):
            raise ValueError(f"{shown!r} has no key. Type KEY=VALUE, for instance optim.lr=3e-3.")
        if len(text) > LONGEST and "," not in text and " " not in text:
            raise ValueError(f"{shown} has {len(text)} characters; no name or value is longer than {LONGEST}.")
        if any(mark * DEEPEST in text for mark in "[{("):
            raise ValueError(f"{shown} nests brackets more than {DEEPEST} deep. Type a list as a+b.")


def check_parsed(overrides: Sequence[Any]) -> None:
    """Refuse overrides that cannot be right, by their key and value.

    Args:
        overrides: parsed by Hydra's grammar.

    Raises:
        ValueError: says what to type instead.
    """
    for override in overrides:
        key, typed = override.key_or_group, shown(override)
        if override.is_delete():
            check_deletion(key, typed)
            continue
        value = override.value()
        if key in GROUPS and isinstance(value, dict):
            raise ValueError(f"{typed}: {key} takes names of options. Type {key}=NAME; settings are {key}.KEY=VALUE.")
        if key in GROUPS and isinstance(value, list) and any(item is None for item in value):
            raise ValueError(f"{typed}: null is no option of {key}. Type {key}=none.")
        if key == "allow_modules" and not isinstance(value, list):
            raise ValueError(f"{typed}: allow_modules takes names of packages. Type allow_modules=my_package.")
        if key in ("checkpoint", "input", "resume") and isinstance(value, list | dict | bool):
            several = ", or checkpoint=RUN+RUN for an ensemble" if key == "checkpoint" else ""
            raise ValueError(f"{typed}: {key} takes one path. Type {key}=PATH{several}.")
        first, _, rest = key.partition(".")
        if first == "hydra" and rest and rest.partition(".")[0] not in OF_HYDRA:
            raise ValueError(f"{typed}: hydra has no setting {rest}. {suggest(rest.partition('.')[0], OF_HYDRA)}")
        if override.is_range_sweep() and not list(value.range()):
            raise ValueError(f"{typed}: the range is empty, so there is no job. Type {key}=range(0,3) for three.")


def check_single(overrides: Sequence[Any]) -> None:
    """Refuse several values of a key in a command that runs once.

    Raises:
        ValueError: says how a sweep, a list, and a text with commas are typed.
    """
    for override in overrides:
        if override.is_delete() or not override.is_sweep_override():
            continue
        key, typed = override.key_or_group, shown(override)
        value, other = typed.partition("=")[2], ""
        if takes_names(key):
            other = f", or {key}={value.replace(',', '+')} for all in one run"
        elif key in ("name", "notes"):
            other = f", or \"{key}='{value}'\" for a text"
        raise ValueError(f"{typed} has several values. Type -m with it for a run with each{other}.")


def check_group(earlier: Any, later: Any) -> None:
    """Refuse a group that is given twice, once or both times with a plus: Hydra does not take the last one then.

    Raises:
        ValueError: says how both choices are typed at once, where a group takes several, else the later one.
    """
    group = later.key_or_group
    if group not in GROUPS or not (earlier.is_add() or later.is_add()):
        return
    both = [earlier, later] if group in TECHNIQUE_GROUPS else [later]
    values = [override.value() for override in both]
    names = [str(name) for value in values for name in (value if isinstance(value, list) else [value])]
    wanted = "+".join(dict.fromkeys(name for name in names if name not in ("none", "None"))) or "none"
    raise ValueError(f"{shown(earlier)} and {shown(later)}: a group is given once. Type {group}={wanted}.")


def repeated(overrides: Sequence[Any], multirun: bool) -> list[str]:
    """A line for every value that a later override replaces: Hydra takes the last one without a word.

    Args:
        overrides: parsed by Hydra's grammar.
        multirun: whether they define a sweep.

    Raises:
        ValueError: a sweep would run other values than it shows, or lose one of two dicts; or a group is given twice
            with a plus.
    """
    lines = []
    given: dict[str, Any] = {}
    dicts: dict[str, Any] = {}
    for override in overrides:
        if override.is_delete():
            continue
        key, mine = override.key_or_group, settings_of(override)
        for path, earlier in [(path, o) for path, o in given.items() if any(overlap(path, m) for m in mine)]:
            if override.is_sweep_override() or earlier.is_sweep_override():
                raise ValueError(f"{shown(earlier)} and {shown(override)}: a swept key is given once. Leave one out.")
            check_group(earlier, override)
            if earlier.input_line != override.input_line:
                what = shown(earlier) if path == earlier.key_or_group else f"{path} in {shown(earlier)}"
                lines.append(f"note: {what} is replaced by {shown(override)}, which comes later")
        if multirun and key in dicts and not key.startswith("hydra."):
            raise ValueError(
                f"{shown(dicts[key])} and {shown(override)}: a sweep takes one dict of a key. Write both as one."
            )
        given |= dict.fromkeys(mine, override)
        dicts |= {key: override} if mine and key not in mine else {}
    return lines


def idle_folder(overrides: Sequence[Any], multirun: bool) -> list[str]:
    """A line if the folder of a sweep is given for a single run, or the other way round.

    Args:
        overrides: parsed by Hydra's grammar.
        multirun: whether they define a sweep.
    """
    idle, other = ("hydra.run.dir", "hydra.sweep.dir")[:: 1 if multirun else -1]
    used = any(f"${{{idle}}}" in o.input_line for o in overrides)
    given = [o.input_line for o in overrides if o.key_or_group == idle and not used]
    what = "a sweep" if multirun else "a single run"
    return [f"note: {text} has no effect on {what}, whose folder is {other}" for text in given[:1]]


def settings_of(override: Any) -> list[str]:
    """The dotted keys that an override sets; those of a swept dict differ from job to job and count as one."""
    return dotted(override.key_or_group, None if override.is_sweep_override() else override.value())


def dotted(key: str, value: Any) -> list[str]:
    """The dotted keys of the values in nested dicts; none for an empty dict, which changes nothing when merged."""
    if not isinstance(value, dict):
        return [key]
    return [path for name, inner in value.items() for path in dotted(f"{key}.{name}", inner)]


def overlap(a: str, b: str) -> bool:
    """Whether two keys set the same value; choosing an option and giving its settings do not exclude each other."""
    shorter, longer = sorted((a, b), key=len)
    return a == b or (shorter not in GROUPS and longer.startswith(f"{shorter}."))


def check_deletion(key: str, typed: str) -> None:
    """Refuse to leave out a group that every run reads.

    Raises:
        ValueError: names an option that stands for nothing, where there is one.
    """
    nothing = {"tracker": "none", "technique": "none", "augment": "none", "regularizer": "none", "precision": "fp32"}
    if key in GROUPS and key != "experiment":
        raise ValueError(f"{typed}: every run needs {key}. Type {key}={nothing.get(key, 'OPTION')}, or leave it out.")


def check_command(overrides: Sequence[str], options: Collection[str]) -> None:
    """Refuse flags that do not exist, a sweeper without a sweep, and an output folder that cannot be one.

    Raises:
        ValueError: says what to type instead.
    """
    for flag in options:
        if flag not in FLAGS:
            name = flag.lstrip("-")
            raise ValueError(f"{flag}: there is no such flag. Settings have no dashes: type {name}=VALUE, or --help.")
    multirun = {"-m", "--multirun"} & set(options)
    sweeper = [text for text in overrides if text.startswith("hydra/sweeper=")]
    if sweeper and not multirun and not {"-c", "--cfg", "--info"} & set(options):
        raise ValueError(f"{sweeper[0]} has no effect without -m. Type python -m mltricks -m {sweeper[0]} ...")
    for text in overrides:
        key, _, value = text.partition("=")
        if key.lstrip("+") in GROUPS and key.startswith("++"):
            raise ValueError(f"{without_brackets(text)}: an option is chosen without a plus. Type {key[2:]}={value}.")
        if key not in ("hydra.run.dir", "hydra.sweep.dir"):
            continue
        path = Path(value.strip("'\"")).absolute()
        if path.is_file() or any(parent.is_file() for parent in path.parents):
            raise ValueError(f"{text}: a file stands there. Type {key}=FOLDER.")
        if path.parts[:2] in (("/", "proc"), ("/", "sys")):
            raise ValueError(
                f"{text}: no folder can be made there. Type {key}=FOLDER, for instance {key}=outputs/first."
            )


def check_package(name: str) -> None:
    """Refuse a search path in a package that is not installed.

    Raises:
        ValueError: names it.
    """
    package = name.removeprefix("pkg://").partition(".")[0].partition("/")[0]
    if name.startswith("pkg://") and find_spec(package) is None:
        raise ValueError(f"hydra.searchpath: {name} names the package {package}, which is not installed.")
