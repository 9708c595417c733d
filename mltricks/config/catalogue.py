"""Write the catalogue of all options from their cards: ``python -m mltricks.config.catalogue docs/catalogue.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from mltricks.config.cards import Card, read_cards
from mltricks.config.options import conf_dir

HEAD = """# Catalogue

Every option of every group. `python -m mltricks job=explain GROUP=OPTION` prints its source, cost and settings.
`make catalogue` writes this file from the options' own cards.
"""


def catalogue(cards: dict[str, list[Card]]) -> str:
    """The options by group, as Markdown."""
    return "\n".join([HEAD, *(section(group, options) for group, options in cards.items())])


def section(group: str, options: list[Card]) -> str:
    """A heading and a table of a group's options."""
    rows = [f"| `{card.name}` | {cell(card.what)} | {cell(card.fields.get('Source', ''))} |" for card in options]
    return "\n".join([f"## {group}", "", "| option | what it is | source |", "| --- | --- | --- |", *rows, ""])


def cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(catalogue(read_cards([conf_dir()])), encoding="utf-8")
