"""Explanations of options and keys, from their cards: ``job=explain technique=mixup key=optim.lr``."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mltricks.about.formula import formula_of
from mltricks.config.cards import Card, explanation, hung, read_card
from mltricks.config.known import Setting, all_settings, is_default, name_of, nearest, target_of
from mltricks.config.names import without_brackets
from mltricks.config.options import GROUPS, SWEEPS
from mltricks.config.overrides import choices, parse
from mltricks.config.settings import HINTS, default_options
from mltricks.config.shorthand import owners
from mltricks.config.values import Range, UnknownName, field_hints, kinds_and_range, suggest
from mltricks.evidence.table import effects_of

COMPUTING = ("technique", "optim", "scheduler", "init", "objective", "sampler")
"""The groups whose options compute something that a formula or a sentence says."""
SEARCH = re.compile(r"[;,]? *search: (.*)$")


def subjects(overrides: Sequence[str]) -> list[str]:
    """What a command with ``job=explain`` asks about: every option and key besides the job.

    >>> subjects(["technique=[mixup,ema]", "optim.lr=0.1", "key=epochs", "batch_size", "hydra/sweeper=study"])
    ['technique=mixup', 'technique=ema', 'optim.lr', 'epochs', 'batch_size', 'hydra/sweeper=study']
    """
    found: list[str] = []
    for text in overrides:
        key, equals, _ = text.lstrip("+~").partition("=")
        if key in ("key", "job.key"):
            found += list(choices(parse([text])[0].value()))
        elif key in (*GROUPS, *SWEEPS) and equals:
            found += [f"{key}={name}" for name in choices(parse([text])[0].value())]
        else:
            found.append(key)
    return found


def explained(subject: str, folders: Sequence[Path], width: int) -> list[str]:
    """The lines that explain an option (``technique=mixup``), a group, or a key.

    Raises:
        UnknownName: suggests the nearest names.
    """
    group, equals, name = subject.partition("=")
    if equals:
        return explanation(card_of(group, name, folders), width, formula(group, name, folders), effects_of(subject))
    if subject in (*GROUPS, *SWEEPS):
        return of_group(subject, folders, width)
    known = all_settings(tuple(folders))
    first, _, setting = subject.partition(".")
    full = owners()[first].full(setting) if setting and first in owners() and first not in GROUPS else subject
    found = [s for s in known if subject in (s.key, s.typed) or (s.key == full and s.option.endswith(f"={first}"))]
    if not found:
        found = [s for s in known if s.key.startswith(f"{subject}.") or s.typed.startswith(f"{subject}.")]
        if not found:
            advice = nearest(subject, folders, {s.option for s in known}) or "Options are typed GROUP=OPTION."
            raise UnknownName(f"{subject} is neither a key nor an option. {advice}")
        keys = dict.fromkeys(s.key for s in found)
        return [line for key in keys for line in of_key([s for s in found if s.key == key], width)]
    return of_key(found, width)


def card_of(group: str, name: str, folders: Sequence[Path]) -> Card:
    """The card of an option; the last folder that has it counts.

    Raises:
        UnknownName: there is no such option, or it is Hydra's own.
    """
    files = [path for folder in folders if (path := folder / group / f"{name}.yaml").is_file()]
    if not files:
        names = sorted({p.stem for folder in folders for p in (folder / group).glob("[!_]*.yaml")})
        ours = " of ours" if group in SWEEPS else ""
        more = " Options of Hydra's own are explained in its documentation." if ours else ""
        raise UnknownName(f"{group} has no option {name or 'without a name'}{ours}. {suggest(name, names)}{more}")
    card = read_card(files[-1], folders)
    typed = tuple((name_of(group, name, key)[1], default, meaning) for key, default, meaning in card.values)
    return dataclasses.replace(card, values=typed)


def formula(group: str, name: str, folders: Sequence[Path]) -> str:
    """What an option computes, for the groups whose classes say it as a formula."""
    path = next((path for folder in reversed(folders) if (path := folder / group / f"{name}.yaml").is_file()), None)
    return formula_of(target_of(path)) if path is not None and group in COMPUTING else ""


def of_group(group: str, folders: Sequence[Path], width: int) -> list[str]:
    """What a group is, and its options."""
    files = {path.stem: path for folder in folders for path in sorted((folder / group).glob("[!_]*.yaml"))}
    wide = max(len(f"{group}={name}") for name in files)
    default = default_options().get(group)
    lines = [f"{group}: {(GROUPS | SWEEPS)[group]}", *([f"  default      {group}={default}"] if default else [])]
    for name, path in sorted(files.items()):
        lines += hung(f"  {f'{group}={name}':<{wide}}  ", read_card(path, folders).what, width)
    return lines


def of_key(found: Sequence[Setting], width: int) -> list[str]:
    """The explanation of a key from all options that have it; the default option's comes first."""
    main = found[0]
    meaning = SEARCH.sub("", main.meaning)
    rows = {"meaning": meaning, "default": default_of(main), "allowed": allowed(main)}
    if match := SEARCH.search(main.meaning):
        rows["search"] = f"{match[1]} (a study draws from it: -m hydra/sweeper=study n_trials=20 tune={main.key})"
    used = [s for s in found if s.option]
    if len(used) > 1 or used != list(found):
        rows["used by"] = "; ".join(f"{s.option} ({s.default}){otherwise(s, meaning)}" for s in used)
    if main.typed != main.key:
        rows["full key"] = main.key
    rows["try"] = try_it(main)
    lines = [main.typed]
    for name, text in rows.items():
        lines += hung(f"  {name:<10} ", text, width) if text else []
    return lines


def otherwise(setting: Setting, meaning: str) -> str:
    """What an option says of a key beyond its default, where that is another meaning; ranges and sources aside.

    >>> setting = Setting("model.width", "model.width", "model=mlp", "128", "units of a layer, >= 1; search: 8 to 64")
    >>> otherwise(setting, "channels, >= 1"), otherwise(setting, "units of a layer (source: 8)")
    (', units of a layer, >= 1', '')
    """
    own, heads = SEARCH.sub("", setting.meaning), re.compile(r"[,;(:].*")
    return f", {own}" if heads.sub("", own).strip() != heads.sub("", meaning).strip() else ""


def default_of(setting: Setting) -> str:
    """The default, with the option that has it."""
    if setting.default == "???":
        return f"none: it must be given ({setting.option})"
    return without_brackets(f"{setting.key}={setting.default}").partition("=")[2] + (
        f" ({setting.option})" if setting.option else ""
    )


def try_it(setting: Setting) -> str:
    """A command that sets the key."""
    value = setting.default if setting.default not in ("null", "???") else "..."
    group, _, _ = setting.option.partition("=")
    choice = "" if is_default(setting.option) and group not in ("job", *SWEEPS) else setting.option
    flag = "-m" if group in SWEEPS else ""
    typed = without_brackets(f"{setting.typed}={value}")
    return " ".join(word for word in ("python -m mltricks", flag, choice, typed) if word)


def allowed(setting: Setting) -> str:
    """The range or the words that the type of a setting allows; empty if its class says nothing more."""
    hint: Any = HINTS.get(setting.key) if not setting.option else hint_of(setting)
    if hint is None:
        return ""
    kinds, bounds = kinds_and_range(hint)
    words = [str(word) for kind in kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)]
    words += ["true", "false"] if bool in kinds else []
    words += [in_words(bounds)] if bounds is not None else []
    words += ["null"] if words and type(None) in kinds else []
    return " | ".join(words)


def in_words(bounds: Range) -> str:
    """A range as it is written in the comments of the options.

    >>> in_words(Range(0, above=True)), in_words(Range(1)), in_words(Range(0, 1, below=True))
    ('> 0', '>= 1', 'in [0, 1)')
    """
    if math.inf in (bounds.high, -bounds.low):
        end, strict, sign = (
            (bounds.low, bounds.above, ">") if bounds.high == math.inf else (bounds.high, bounds.below, "<")
        )
        return f"{sign}{'' if strict else '='} {end:g}"
    return f"in {'(' if bounds.above else '['}{bounds.low:g}, {bounds.high:g}{')' if bounds.below else ']'}"


def hint_of(setting: Setting) -> Any:
    """The annotation of the field that receives a setting of one of our classes; ``None`` otherwise."""
    if not setting.target.startswith("mltricks."):
        return None
    module, _, name = setting.target.rpartition(".")
    found = getattr(import_module(module), name)
    if not dataclasses.is_dataclass(found):
        return None
    name = setting.key.rpartition(".")[2]
    return field_hints(found).get(name) or getattr(found, "settings", {}).get(name)  # type: ignore[arg-type]
