"""Tab completion in bash, zsh and fish: ``mltricks -sc install=bash`` prints a script for the shell to evaluate.

Deviation: Hydra's own completion composes the configuration at every key press, knows no lists, and does not work in
zsh without an emulation of bash. This one reads file names, and the cards of the chosen options only.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mltricks.config.cards import read_card
from mltricks.config.names import takes_names, with_brackets
from mltricks.config.options import GROUPS, SWEEPS, TECHNIQUE_GROUPS, conf_dir
from mltricks.config.overrides import own_folders, split_arguments
from mltricks.config.settings import HINTS, default_options, top_level
from mltricks.config.shorthand import chosen_options, owners, short
from mltricks.config.values import kinds_and_range

SHELLS = ("bash", "zsh", "fish")
FLAGS = ("--help", "--version", "--multirun", "--cfg", "--config-dir", "-m", "-sc")
PATHS = (
    "resume",
    "checkpoint",
    "input",
    "data.path",
    "data.root",
    "init.checkpoint",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
"""Settings whose value is a file or a folder."""
BASH = r"""_mltricks() {
  local line="${COMP_LINE:0:COMP_POINT}" word="${COMP_WORDS[COMP_CWORD]}" IFS=$'\n' current before
  current="${line##* }"
  before="${current%"$word"}"
  [ "$word" = "=" ] && before="$current"
  COMPREPLY=($(COMP_LINE="$line" mltricks -sc query=bash 2>/dev/null))
  COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o nospace -F _mltricks mltricks
"""
"""readline replaces only what follows the last ``=``, so what stands before it is cut off the answers."""
ZSH = r"""(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_mltricks() {
  local -a found
  found=("${(@f)$(COMP_LINE="$LBUFFER" mltricks -sc query=zsh 2>/dev/null)}")
  compadd -Q -S "" -- $found
}
compdef _mltricks mltricks
"""
FISH = r"""function __mltricks
  set -lx COMP_LINE (commandline -cp)
  mltricks -sc query=fish 2>/dev/null
end
complete -c mltricks -f -a '(__mltricks)'
"""
UNINSTALL = {
    "bash": "complete -r mltricks; unset -f _mltricks\n",
    "zsh": "compdef -d mltricks; unfunction _mltricks\n",
    "fish": "complete -c mltricks -e; functions -e __mltricks\n",
}


def script(what: str, shell: str) -> str:
    """The text that a shell evaluates to switch completion on (``install``) or off (``uninstall``).

    The one for bash works in zsh too, since Hydra's documentation tells users of zsh to take it.

    Raises:
        ValueError: names the shells.
    """
    if shell not in SHELLS or what not in ("install", "uninstall"):
        raise ValueError(f"-sc {what}={shell}: type -sc install=bash, zsh or fish, or uninstall= with the same.")
    scripts = {"bash": BASH, "zsh": ZSH, "fish": FISH} if what == "install" else UNINSTALL
    if shell != "bash":
        return scripts[shell]
    quoted = scripts["zsh"].replace("'", "'\\''")
    return f"if [ -n \"$ZSH_VERSION\" ]; then eval '{quoted}'; else\n{scripts['bash']}fi\n"


def answers(line: str) -> list[str]:
    """The words that can stand at the end of a command line.

    Args:
        line: the command up to the cursor, with the program's name.
    """
    *words, last = re.split(r"\s+", line.lstrip())
    overrides, options = split_arguments([with_brackets(word) for word in words[1:]])
    if words and words[-1] in ("--config-dir", "-cd"):
        return paths(last)
    if words and words[-1] in ("--cfg", "-c"):
        return matching(["job", "hydra", "all"], last)
    if last.startswith("-"):
        return matching(FLAGS, last)
    sweeps = bool({"-m", "--multirun"} & options.keys())
    folders = [conf_dir(), *(folder for folder in own_folders(overrides, options) if folder is not None)]
    chosen = default_options() | chosen_options(overrides, sweeps)
    lists: dict[str, list[str]] = {}
    for key, value in (text.split("=", 1) for text in overrides if "=" in text):
        if key in GROUPS:
            lists[key] = re.findall(r"[\w.-]+", value)
    options_of = {group: lists.get(group, [chosen[group]] if group in chosen else []) for group in GROUPS}
    key, equals, value = last.partition("=")
    if equals:
        return [f"{key}={found}" for found in values(key, value, folders, options_of, sweeps)]
    return matching(keys(key, folders, options_of, chosen, sweeps), last)


def keys(
    word: str, folders: Sequence[Path], options_of: dict[str, list[str]], chosen: dict[str, str], sweeps: bool
) -> Iterator[str]:
    """The keys that begin like ``word``, each with ``=``; settings of options once their group is typed."""
    yield from (f"{group}=" for group in [*GROUPS, *(SWEEPS if sweeps else ())])
    yield from (f"{key}=" for key in root_keys())
    for group in ("job", *SWEEPS):
        if (owner := owners().get(chosen.get(group, ""))) is not None:
            yield from (f"{short(owner.name, setting)}=" for setting in owner.settings)
    group = word.partition(".")[0]
    if "." in word and group in GROUPS:
        yield from (f"{key}=" for key in settings(group, folders, options_of))
    elif word in GROUPS:
        yield f"{word}."


def values(
    key: str, value: str, folders: Sequence[Path], options_of: dict[str, list[str]], sweeps: bool
) -> Iterator[str]:
    """The values of a key that begin like ``value``: names of options, allowed words, paths, or the default."""
    if key in GROUPS or key in SWEEPS:
        place = max(value.rfind(mark) for mark in ",+[") + 1
        before, taken = value[:place], re.split(r"[,+\[]", value[:place])
        if not before or takes_names(key) or sweeps:
            names = {*options_of_group(key, folders), *(["none"] if key == "technique" and not before else [])}
            yield from (f"{before}{name}" for name in matching(names - set(taken), value[place:]))
    elif key in PATHS:
        yield from paths(value)
    elif key in HINTS:
        kinds, _ = kinds_and_range(HINTS[key])
        words = [
            str(word) for kind in kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)
        ]
        words += ["true", "false"] if bool in kinds else []
        yield from matching(words or [str(root_keys()[key])], value)
    else:
        default = settings(key.partition(".")[0], folders, options_of).get(key)
        yield from matching(["true", "false"] if default in ("true", "false") else [default or ""], value)


def options_of_group(group: str, folders: Sequence[Path]) -> list[str]:
    """The options of a group, without private files."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("[!_]*.yaml")})


def settings(group: str, folders: Sequence[Path], options_of: dict[str, list[str]]) -> dict[str, str]:
    """The settings of a group's chosen options, with their defaults."""
    files = [
        (g, name)
        for g in (TECHNIQUE_GROUPS if group in TECHNIQUE_GROUPS else [group])
        for name in options_of.get(g, [])
    ]
    found: dict[str, str] = {}
    for owner, name in files:
        for folder in folders:
            if (path := folder / owner / f"{name}.yaml").is_file():
                found |= {key: default for key, default, _ in read_card(path, folders).values}
    return found


def root_keys() -> dict[str, object]:
    """The top-level keys, nested ones with a dot, and their defaults."""
    found: dict[str, object] = {}
    for key, value in top_level().items():
        if key not in GROUPS:
            found |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return found


def matching(words: Iterable[str], start: str) -> list[str]:
    return sorted({word for word in words if word.startswith(start)})


def paths(start: str) -> list[str]:
    """Files and folders that begin like ``start``; folders end with a slash."""
    folder, _, name = start.rpartition("/")
    place = Path(folder or ("/" if start.startswith("/") else "."))
    try:
        found = [path for path in place.iterdir() if path.name.startswith(name) and (name or path.name[0] != ".")]
    except OSError:
        return []
    before = start[: len(start) - len(name)]
    return sorted(f"{before}{path.name}{'/' if path.is_dir() else ''}" for path in found)
