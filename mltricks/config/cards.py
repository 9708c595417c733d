"""Cards: the documentation of an option, read from the comments in its YAML file.

The header's first line is the description, a line with ``python -m mltricks`` is an example command, and ``Word: text``
is a field. An indented line continues the line above. The comment beside a value is that setting's meaning.
docs/how_to/option.md lists the fields.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mltricks.config.options import TECHNIQUE_GROUPS

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node

COMMAND = "python -m mltricks"
FIELD = re.compile(r"([A-Z][\w -]*): (.+)")


@dataclass(frozen=True)
class Card:
    """The documentation of one option.

    Attributes:
        group, name: the option, typed ``group=name``.
        what: its one-line description.
        command: an example command.
        fields: ``Source``, ``Cost`` and other fields, with their texts.
        values: key, default and meaning of every setting.
        parts: options in other files that it combines.
    """

    group: str
    name: str
    what: str
    command: str
    fields: dict[str, str]
    values: tuple[tuple[str, str, str], ...]
    parts: tuple[str, ...]


def read_cards(folders: Sequence[Path], groups: Sequence[str] = ()) -> dict[str, list[Card]]:
    """Read the cards of the given groups, or of all, by group; an option in a later folder replaces an earlier one."""
    found: dict[str, dict[str, Card]] = {}
    for folder in folders:
        for path in sorted([*folder.glob("*/[!_]*.yaml"), *folder.glob("hydra/*/[!_]*.yaml")]):
            group = group_of(path)
            if not groups or group in groups:
                found.setdefault(group, {})[path.stem] = read_card(path, folders)
    return {group: [cards[name] for name in sorted(cards)] for group, cards in sorted(found.items())}


def read_card(path: Path, folders: Sequence[Path] = ()) -> Card:
    """Read the card of one option; settings inherited from a file in the same folder come first.

    A setting that the option gives another default keeps its place, and its meaning unless there is a new one.
    """
    group, text = group_of(path), path.read_text(encoding="utf-8")
    header = read_header(text)
    is_global = "@package _global_" in header
    header = [line for line in header if not line.startswith("@package")]
    command = next((line for line in header if line.startswith(COMMAND)), f"{COMMAND} {group}={path.stem}")
    fields = {m[1]: m[2] for line in header[1:] if (m := FIELD.fullmatch(line))}
    values: list[tuple[str, str, str]] = []
    parts: list[str] = []
    for part in named_in_defaults(text):
        beside = path.with_name(f"{part}.yaml")
        if beside.is_file():
            values += read_card(beside, folders).values
        if not part.startswith("_"):
            parts.append(part)
    values += read_values(text, "" if is_global else f"{group.replace('/', '.')}.")
    return Card(group, path.stem, header[0] if header else "", command, fields, merged(values), tuple(parts))


def merged(values: Sequence[tuple[str, str, str]]) -> tuple[tuple[str, str, str], ...]:
    """One entry for every key: the last default, and the last meaning that is not empty.

    >>> merged([("a", "1", "number"), ("b", "2", ""), ("a", "3", "")])
    (('a', '3', 'number'), ('b', '2', ''))
    """
    found: dict[str, tuple[str, str, str]] = {}
    for key, default, meaning in values:
        found[key] = (key, default, meaning or found.get(key, ("", "", ""))[2])
    return tuple(found.values())


def group_of(path: Path) -> str:
    """The group of an option's file: ``optim``, ``hydra/sweeper``."""
    outer = path.parent.parent.name
    return f"hydra/{path.parent.name}" if outer == "hydra" else path.parent.name


def read_header(text: str) -> list[str]:
    """The comment lines at the top of a file, each joined with its indented continuation lines."""
    header: list[str] = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        words = line.lstrip("#").strip()
        if header and words and line.startswith("#   "):
            header[-1] += f" {words}"
        elif words:
            header.append(words)
    return header


def read_tree(text: str) -> MappingNode | None:
    """Parse a file to nodes with comments and positions; ``None`` if it holds only comments."""
    from ruamel.yaml import YAML  # imported here: only commands that show options need it

    return YAML().compose(text)


def named_in_defaults(text: str) -> Iterator[str]:
    """The entries of a defaults list: ``name`` or ``group=name``."""
    tree = read_tree(text)
    lists = [value for key, value in tree.value if key.value == "defaults"] if tree else []
    for entry in (entry for found in lists for entry in found.value):
        if isinstance(entry.value, str):
            yield "=".join(entry.value.lstrip("/").rsplit("/", 1))
        else:
            [(key, value)] = entry.value
            yield f"{key.value.removeprefix('override ').lstrip('/')}={value.value}"


def read_values(text: str, prefix: str) -> list[tuple[str, str, str]]:
    """Full key, default and meaning of every setting in a file; the lines of a comment are joined."""
    tree = read_tree(text)
    return list(_settings(tree, text, prefix)) if tree else []


def _settings(tree: MappingNode, text: str, prefix: str) -> Iterator[tuple[str, str, str]]:
    for key, value in tree.value:
        if key.value in ("_target_", "defaults"):
            continue
        if value.id == "mapping" and not value.flow_style:
            yield from _settings(value, text, f"{prefix}{key.value}.")
        else:
            yield f"{prefix}{key.value}", _value(value, text), _comment(value)


def _value(node: Node, text: str) -> str:
    """A value on one line, as it stands in the file; a list whose items stand on lines of their own in brackets."""
    from ruamel.yaml.nodes import SequenceNode

    if isinstance(node, SequenceNode) and not node.flow_style:
        return f"[{', '.join(_value(item, text) for item in node.value)}]"
    return " ".join(text[node.start_mark.index : node.end_mark.index].split())


def _comment(node: Node) -> str:
    """The comment beside a value, its lines joined."""
    found = [part if isinstance(part, list) else [part] for part in node.comment or ()]
    tokens = [token for part in found for token in part if token is not None]
    lines = [line.strip().lstrip("#").strip() for token in tokens for line in token.value.splitlines()]
    return " ".join(line for line in lines if line)


def listing(cards: dict[str, list[Card]]) -> list[str]:
    """One line per option, as typed and with its description; an empty line between groups."""
    wide = max((len(f"{c.group}={c.name}") for group in cards.values() for c in group), default=0)
    lines = []
    for group in cards.values():
        lines += [f"{f'{card.group}={card.name}':<{wide}}  {card.what}" for card in group] + [""]
    return lines[:-1]


def explanation(card: Card, width: int = 110, formula: str = "", measured: Sequence[str] = ()) -> list[str]:
    """Format a card as lines of text.

    Args:
        card: the card.
        width: of a line.
        formula: what the option computes; may be empty.
        measured: its measured effects, each on lines of its own.
    """
    fields = {"what": card.what, "try": card.command, **({"formula": formula} if formula else {})}
    fields |= {key.lower(): text for key, text in card.fields.items()}
    if card.parts:
        fields["consists of"] = ", ".join(card.parts)
    if card.group in TECHNIQUE_GROUPS:
        fields["order"] = "augment, then regularizer, then technique; show=true prints the whole list"
    lines = [f"{card.group}={card.name}"]
    for name, text in fields.items():
        lines += hung(f"  {name:<12}", text, width)
    for i, text in enumerate(measured):
        lines += hung(f"  {'' if i else 'measured':<12}", text, width)
    if card.values:
        lines.append("  settings")
    for key, default, meaning in card.values:
        lines += hung(f"    {key}={default}  ", "", width) + (hung("        ", meaning, width) if meaning else [])
    return lines


def hung(first: str, text: str, width: int) -> list[str]:
    """Wrap text after a first word, with a hanging indent."""
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * len(first)) or [first.rstrip()]
