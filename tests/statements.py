"""Read the facts that an option's card states for the contract tests.

``# Off: p=0`` or ``always`` or ``none``; ``# Needs: data.unlabeled_ratio=2``; ``# Not with: simclr (reason)``;
``# Loss: rises while ...``. The section "The card of an option" of docs/how_to/option.md is the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mltricks.config.cards import COMMAND, FIELD, read_card, read_header

FIELDS = {
    *("Source", "Cost", "Needs", "Off", "Loss", "Not with", "Combines"),
    *("Result", "Overrides", "Offline", "Note", "Names", "Ignores"),
}
"""The names of the fields of a card, with which a line of the header may begin."""
SETTING = re.compile(r"[\w./]+=\S+")
REASON = re.compile(r"(?P<terms>.*?)(?: \((?P<reason>.+)\))?")
PARTNER = re.compile(r"(?P<name>\w+(?:=\w+)?) \((?P<reason>[^()]+)\)")
LOSS = re.compile(r"falls|rises while .+|does not fall: .+")
UNFINISHED = re.compile(r".*(?:[,:(]|\b(?:and|or|of|the|a|with))|.*\([^)]*")
INTERVAL = re.compile(r"[\[(][^\[\]()]+, [^\[\]()]+[\])]")


@dataclass(frozen=True)
class Statement:
    """The facts on a card.

    Attributes:
        off: overrides at which training equals the run without the option; ``None`` if there are none.
        needs: overrides without which the option is refused; ``RUN`` stands for the output folder of a run.
        not_with: options with which it cannot be combined, with the reasons.
        loss_falls: whether its training loss falls from the start.
    """

    off: list[str] | None = None
    needs: list[str] = field(default_factory=list)
    not_with: dict[str, str] = field(default_factory=dict)
    loss_falls: bool = True


def read_statement(path: Path) -> Statement:
    """Read the card of a file. A malformed line raises a ``ValueError`` that names the file."""
    card = read_card(path, [path.parent.parent])
    try:
        return parse(card.fields, f"{card.group}.{card.name}" if card.group == "technique" else card.group)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse(fields: Mapping[str, str], key: str) -> Statement:
    """Parse the fields of a card; ``key`` is the key of the option's settings."""
    loss = fields.get("Loss", "falls")
    if not LOSS.fullmatch(loss):
        raise ValueError(f"Loss: {loss}. Write falls, rises while ..., or does not fall: reason.")
    off = fields.get("Off", "none (the card does not say)")
    return Statement(_off(off, key), _settings("Needs", fields.get("Needs", "")), _not_with(fields), loss == "falls")


def _off(text: str, key: str) -> list[str] | None:
    found = REASON.fullmatch(text)
    if found and found["terms"] in ("none", "always"):
        if not found["reason"]:
            raise ValueError(f"Off: {text}. Write the reason in brackets behind it.")
        return None if found["terms"] == "none" else []
    settings = _settings("Off", text)
    if not settings:
        raise ValueError("Off: is empty. Write settings, always (reason), or none (reason).")
    return [f"{key}.{setting}" for setting in settings]


def _settings(name: str, text: str) -> list[str]:
    found = REASON.fullmatch(text)
    terms = found["terms"].split() if found else [text]
    for term in terms:
        if not SETTING.fullmatch(term):
            raise ValueError(f"{name}: {text}. Write key=value, several with spaces between, then (reason).")
    return terms


def _not_with(fields: Mapping[str, str]) -> dict[str, str]:
    partners = {}
    for text in filter(None, fields.get("Not with", "").split("; ")):
        found = PARTNER.fullmatch(text)
        if found is None:
            raise ValueError(f"Not with: {text}. Write name (reason), several with ; between.")
        partners[found["name"]] = found["reason"]
    return partners


def problems(path: Path) -> Iterator[str]:
    """List the mistakes in the header of a file and in the comments of its settings."""
    card = read_card(path, [path.parent.parent])
    lines = [line for line in read_header(path.read_text(encoding="utf-8")) if not line.startswith("@package")]
    for line in lines[1:]:
        found = FIELD.fullmatch(line)
        if not line.startswith(COMMAND) and (found is None or found[1] not in FIELDS):
            yield f"{line!r} is no command and no field: indent what continues the line above it"
    names = [found[1] for line in lines[1:] if (found := FIELD.fullmatch(line))]
    yield from (f"the field {name} stands twice" for name in set(names) if names.count(name) > 1)
    for text in [*lines, *(meaning for _, _, meaning in card.values)]:
        if not text.startswith(COMMAND) and UNFINISHED.fullmatch(INTERVAL.sub("", text)):
            yield f"{text!r} ends in mid-sentence"
    try:
        read_statement(path)
    except ValueError as error:
        yield str(error)
