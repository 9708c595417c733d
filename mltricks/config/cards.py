"""What the YAML files say of themselves: one card an option, read from its comments. Nothing else is imported.

The header's first line is the description; a line with ``python -m mltricks`` is how to try it; ``Word: text`` is a
field. The comment beside a value is its meaning.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

COMMAND = "python -m mltricks"
FIELD = re.compile(r"([A-Z][\w -]*): (.+)")
VALUE = re.compile(r"^(?P<indent> *)(?P<key>[\w.]+):(?:\s+(?P<value>[^#].*?))?(?:\s+#\s?(?P<meaning>.*))?$")
TECHNIQUE_GROUPS = ("technique", "augment", "regularizer")


@dataclass(frozen=True)
class Card:
    """An option of a group.

    Attributes:
        group, name: where it is chosen, ``group=name``.
        what: its description in a line.
        command: how to try it.
        fields: ``Source``, ``Cost`` and the like, with their texts.
        values: key, default and meaning of every setting.
        parts: options of other files that it consists of.
    """

    group: str
    name: str
    what: str
    command: str
    fields: dict[str, str]
    values: tuple[tuple[str, str, str], ...]
    parts: tuple[str, ...]


def read_cards(folders: Sequence[Path], groups: Sequence[str] = ()) -> dict[str, list[Card]]:
    """The cards of the options by group, of the given groups or of all; a later folder's hide an earlier one's."""
    found: dict[str, dict[str, Card]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/[!_]*.yaml")):
            group = path.parent.name
            if not groups or group in groups:
                found.setdefault(group, {})[path.stem] = read_card(path, folders)
    return {group: [cards[name] for name in sorted(cards)] for group, cards in sorted(found.items())}


def read_card(path: Path, folders: Sequence[Path] = ()) -> Card:
    """The card of one option; settings that it takes over from a file beside it come first."""
    group, lines = path.parent.name, path.read_text(encoding="utf-8").splitlines()
    header: list[str] = []
    while lines and (not lines[0].strip() or lines[0].startswith("#")):
        header.append(lines.pop(0).lstrip("#").strip())
    is_global = "@package _global_" in header
    header = [line for line in header if line and not line.startswith("@package")]
    command = next((line for line in header if line.startswith(COMMAND)), f"{COMMAND} {group}={path.stem}")
    fields = {m[1]: m[2] for line in header[1:] if (m := FIELD.fullmatch(line))}
    values: list[tuple[str, str, str]] = []
    parts: list[str] = []
    for part in named_in_defaults(lines):
        beside = path.with_name(f"{part}.yaml")
        if part.startswith("_") and beside.is_file():
            values += read_card(beside, folders).values
        elif not part.startswith("_"):
            parts.append(part)
    values += read_values(lines, "" if is_global else f"{group}.")
    return Card(group, path.stem, header[0] if header else "", command, fields, tuple(values), tuple(parts))


def named_in_defaults(lines: Sequence[str]) -> Iterator[str]:
    """The entries of a defaults list: ``name`` or ``group=name``."""
    inside = False
    for line in lines:
        if line.startswith("defaults:"):
            inside = True
            yield from (
                name.strip() for name in line.removeprefix("defaults:").strip().strip("[]").split(",") if name.strip()
            )
        elif inside and line.strip().startswith("- "):
            entry = line.strip().removeprefix("- ").partition("#")[0].removeprefix("override ").strip().lstrip("/")
            yield entry.replace(": ", "=") if ": " in entry else "=".join(entry.rsplit("/", 1))
        elif inside and line.strip():
            inside = False


def read_values(lines: Sequence[str], prefix: str) -> list[tuple[str, str, str]]:
    """Full key, default and meaning of every setting in the body of a file; what a comment goes on with is joined."""
    values: list[tuple[str, str, str]] = []
    path: list[tuple[int, str]] = []
    for line in lines:
        match = VALUE.match(line)
        if match is None:
            if values and line.strip().startswith("#"):
                key, default, meaning = values[-1]
                values[-1] = (key, default, f"{meaning} {line.strip().lstrip('# ')}")
            continue
        depth, key, value = len(match["indent"]), match["key"], match["value"]
        path = [*((d, k) for d, k in path if d < depth), (depth, key)]
        if value and key not in ("_target_", "defaults"):
            values.append((prefix + ".".join(k for _, k in path), value, match["meaning"] or ""))
    return values


def listing(cards: dict[str, list[Card]]) -> list[str]:
    """Every option as one would type it, with its description; a line each, groups apart."""
    wide = max((len(f"{c.group}={c.name}") for group in cards.values() for c in group), default=0)
    lines = []
    for group in cards.values():
        lines += [f"{f'{card.group}={card.name}':<{wide}}  {card.what}" for card in group] + [""]
    return lines[:-1]


def explanation(card: Card, width: int = 110) -> list[str]:
    """A card as text."""
    fields = {"what": card.what, "try": card.command, **{key.lower(): text for key, text in card.fields.items()}}
    if card.parts:
        fields["consists of"] = ", ".join(card.parts)
    if card.group in TECHNIQUE_GROUPS:
        fields["order"] = "the whole list is augment, regularizer, technique; show=true prints it"
    lines = [f"{card.group}={card.name}"]
    for name, text in fields.items():
        lines += hung(f"  {name:<12}", text, width)
    if card.values:
        lines.append("  settings")
    for key, default, meaning in card.values:
        lines += hung(f"    {key}={default}  ", "", width) + (hung("        ", meaning, width) if meaning else [])
    return lines


def hung(first: str, text: str, width: int) -> list[str]:
    """Text behind a first word, its further lines set in."""
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * len(first)) or [first.rstrip()]
