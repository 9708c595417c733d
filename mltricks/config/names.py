"""Lists of names without brackets: ``technique=mixup+ema`` means ``technique=[mixup,ema]``.

zsh, the default shell of a Mac, expands brackets. The form with ``+`` needs no quotes in any shell. It is read wherever
a setting takes a list of names, and shown in every message and page; the form with brackets works as well. Patterns of
names (``*``, ``?``) are typed the same way, in quotes where the shell would expand them.
``none`` is the empty list.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from mltricks.config.options import TECHNIQUE_GROUPS, conf_dir
from mltricks.config.settings import top_level
from mltricks.config.stages import as_typed, inner_key

NAME = r"[\w./:*?-]+"
"""Of an option, a setting or a package, or a pattern of names."""
JOINED = re.compile(rf"(?<![\w./:*?+\[-]){NAME}(?:\+{NAME})*(?![\w./:*?+\](-])")
BRACKETS = re.compile(rf"\[({NAME}(?:,{NAME})*)?\]")
PART = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\[[^\[\]]*\]|\{[^{}]*\}""")
"""Parts of a value that are taken as they are: quoted text, lists and dicts."""
WITH_NONE = ("augment", "regularizer")
"""Groups that have an option ``none``; everywhere else it is the empty list."""
OF_SWEEPS_AND_JOBS = ("tune", "retune", "objectives", "runs", "key", "layers", "other_layers")
"""Settings of sweepers and jobs that take a list of names; tests compare them with their YAML files."""
PROGRAM = ("python", "-m", "mltricks")


def with_brackets(override: str) -> str:
    """An override with its lists of names in brackets, as Hydra's grammar has them; any other is unchanged.

    >>> with_brackets("technique=none,mixup,mixup+ema"), with_brackets("tune=optim.lr"), with_brackets("optim.lr=1e+3")
    ('technique=[],mixup,[mixup,ema]', 'tune=[optim.lr]', 'optim.lr=1e+3')
    """
    key, equals, value = override.partition("=")
    name = inner_key(key.lstrip("+"))
    if not equals or not value or key.startswith("~") or not takes_names(name):
        return override
    single = name in TECHNIQUE_GROUPS

    def bracketed(match: re.Match[str]) -> str:
        names = match[0].split("+")
        if names == ["none"] and name not in WITH_NONE:
            return "[]"
        alone = len(names) == 1 and (single or names[0] in ("null", "choice", "shuffle"))
        return match[0] if alone else f"[{','.join(names)}]"

    return f"{key}={outside(value, bracketed)}"


def outside(value: str, change: Callable[[re.Match[str]], str]) -> str:
    """The value with every bare name, or names joined by ``+``, changed; quoted text and lists stay as they are."""
    parts, place = [], 0
    for kept in [*PART.finditer(value), None]:
        end = len(value) if kept is None else kept.start()
        parts += [JOINED.sub(change, value[place:end]), kept[0] if kept else ""]
        place = end if kept is None else kept.end()
    return "".join(parts)


def without_brackets(override: str) -> str:
    """An override with its lists of names joined by ``+``: the form that is shown.

    >>> [without_brackets(text) for text in ("technique=[],mixup,[mixup,ema]", "technique=[mixup]", "tags=[]")]
    ['technique=none,mixup,mixup+ema', 'technique=mixup', 'tags=none']
    """
    override = as_typed(override)
    key, equals, value = override.partition("=")
    name = key.lstrip("+")
    if "[" not in value or not equals or key.startswith("~") or not takes_names(name):
        return override

    def joined(match: re.Match[str]) -> str:
        return match[1].replace(",", "+") if match[1] else "none"

    return f"{key}={BRACKETS.sub(joined, value)}"


def shown(override: Any) -> str:
    """A parsed override as it can be typed: lists of names without brackets, settings of a sweeper without a prefix."""
    return without_brackets(str(override.input_line).removeprefix("hydra.sweeper."))


def command(overrides: Sequence[str], options: Sequence[str] = ()) -> str:
    """The command with these overrides, as it is typed in any shell.

    >>> command(["technique=[mixup,ema]", "optim.lr=0.1"])
    'python -m mltricks technique=mixup+ema optim.lr=0.1'
    """
    return " ".join([*PROGRAM, *map(in_shell, [*options, *map(without_brackets, overrides)])])


def in_shell(word: str) -> str:
    """A word as a user types it in a shell: in double quotes if it needs any and they do, which are easier to read.

    >>> in_shell("a=1"), in_shell("a=[1,2]"), in_shell("a=$b")
    ('a=1', '"a=[1,2]"', "'a=$b'")
    """
    return shlex.quote(word) if re.search(r'["$`\\!]', word) or shlex.quote(word) == word else f'"{word}"'


def takes_names(key: str) -> bool:
    """Whether a setting takes a list of names."""
    key = inner_key(key)
    first, _, rest = key.partition(".")
    last = key.rpartition(".")[2]
    if not rest:
        return key in (*TECHNIQUE_GROUPS, *OF_SWEEPS_AND_JOBS) or isinstance(top_level().get(key), list)
    if first in ("hydra", "study", "recipe", "ablation", "job"):
        return last in OF_SWEEPS_AND_JOBS
    return last in lists_of(first, rest.partition(".")[0] if first == "technique" else "")


@functools.cache
def lists_of(group: str, option: str) -> frozenset[str]:
    """The settings of a group's options that take a list of names, by their last name.

    Their value is such a list, or empty, or ``null`` with a comment that begins with "patterns".

    Args:
        group: as ``optim``.
        option: whose settings alone count, unless it is not one of ours.
    """
    found = re.compile(r'^ *(\w+): (?:\[(?:["A-Za-z][^\]]*)?\]|null +# patterns )', re.MULTILINE)
    folder = conf_dir() / group
    files = [own] if (own := folder / f"{option}.yaml").is_file() else folder.glob("*.yaml")
    return frozenset(name for path in files for name in found.findall(path.read_text(encoding="utf-8")))
