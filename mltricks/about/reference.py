"""Pages of reference in Markdown, from the options' own files: all options, one page a group, the top-level keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mltricks.about.explain import SEARCH, allowed, formula
from mltricks.config.cards import Card, read_cards
from mltricks.config.known import Setting, all_settings
from mltricks.config.options import GROUPS, SWEEPS, conf_dir
from mltricks.evidence.table import effects_of

CODE = re.compile(r"(?<![\w`.=])[a-z][\w./]*=[^\s;,)`]*[^\s;,)`.:]")
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
MARKS = re.compile(r"([\\*_\[\]{|<])")
"""What Markdown or its extensions read as marks; a brace at the end of a cell would be attributes of the cell."""
FOUND_FIRST = "---\nsearch:\n  boost: 5\n---\n\n"
"""A search for an option finds its card before pages that mention it."""
ALL = """# Every option

Every option of every group, a line each; a name leads to its card. `python -m mltricks job=list` prints the same list,
and `job=explain technique=mixup` one card.
"""
TOP_LEVEL = """---
hide: [toc]
---

# Top-level keys

These keys belong to the run itself. They stand on the command line without a prefix: `epochs=3`.
`python -m mltricks job=explain key=epochs` prints one of them. [Sweeps](../sweeps.md#which-keys-need-a-prefix) has the
rule for the settings of jobs, sweepers and launchers.
"""


def reference_pages(folders: Sequence[Path]) -> dict[str, str]:
    """Every generated page, by its path below ``reference/``.

    Args:
        folders: the folders of options, laid out as ``conf/``.
    """
    cards, settings = read_cards(folders), all_settings(tuple(folders))
    groups = {group: cards[group] for group in (*GROUPS, *SWEEPS)}
    pages = {"keys.md": page(TOP_LEVEL, table([s for s in settings if not s.option]))}
    pages["options/index.md"] = page(ALL, *(overview(group, options) for group, options in groups.items()))
    return pages | {
        f"options/{path_of(group)}": page_of_group(group, options, settings) for group, options in groups.items()
    }


def path_of(group: str) -> str:
    """The page of a group, below ``reference/options/``."""
    return f"{group.rpartition('/')[2]}.md"


def page(*parts: str) -> str:
    return "\n".join(parts)


def overview(group: str, options: Sequence[Card]) -> str:
    """A heading and a table with a line for each option of a group."""
    rows = [f"| [`{c.name}`]({path_of(group)}#{c.name}) | {prose(c.what)} |" for c in options]
    about = f"{(GROUPS | SWEEPS)[group].capitalize()}."
    return page(f"## {group}", "", about, "", "| option | what it is |", "| --- | --- |", *rows, "")


def page_of_group(group: str, options: Sequence[Card], settings: Iterable[Setting]) -> str:
    """The cards of a group's options, each under a heading of its own."""
    by_option: dict[str, list[Setting]] = {}
    for setting in settings:
        by_option.setdefault(setting.option, []).append(setting)
    about = f"{FOUND_FIRST}# {group}\n\n{(GROUPS | SWEEPS)[group].capitalize()}.\n"
    return page(about, *(section(card, by_option.get(f"{group}={card.name}", [])) for card in options))


def section(card: Card, settings: Sequence[Setting]) -> str:
    """One option: description, command, fields of its card, settings."""
    fields = [f"- **Formula**: {prose(what)}"] if (what := formula(card.group, card.name, [conf_dir()])) else []
    fields += [f"- **{name}**: {prose(text)}" for name, text in card.fields.items() if name != "Names"]
    fields += [f"- **Measured** on {prose(text)}" for text in effects_of(f"{card.group}={card.name}")]
    if card.parts:
        fields.append(f"- **Consists of**: {', '.join(f'`{part}`' for part in card.parts)}")
    lines = [f"## `{card.group}={card.name}` {{ #{card.name} }}", "", f"{prose(card.what)}.", ""]
    lines += ["```bash", card.command, "```", "", *fields, *([""] if fields else [])]
    return page(*lines, table(settings))


def table(settings: Sequence[Setting]) -> str:
    """The settings with default, meaning, allowed values and search range; empty without any."""
    if not settings:
        return ""
    rows = [row_of(setting) for setting in settings]
    used = [any(row[column] for row in rows) for column in range(len(HEADS))]
    shown = [[text for text, keep in zip(row, used, strict=True) if keep] for row in (HEADS, *rows)]
    shown.insert(1, ["---"] * len(shown[0]))
    kind = "settings" if used[HEADS.index("allowed")] else "settings no-allowed"  # the style sheet labels the columns
    return page(f'<div class="{kind}" markdown>', "", *(f"| {' | '.join(row)} |" for row in shown), "", "</div>", "")


HEADS = ("key", "default", "meaning", "allowed", "search")


def row_of(setting: Setting) -> tuple[str, ...]:
    """The cells of a setting."""
    found = SEARCH.search(setting.meaning)
    meaning = SEARCH.sub("", setting.meaning)
    values = prose(allowed(setting))
    return code(setting.typed), code(setting.default), prose(meaning), values, prose(found[1]) if found else ""


def code(text: str) -> str:
    """A text as code in a cell of a table."""
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def prose(text: str) -> str:
    """A text of a card in Markdown: overrides as code, papers as links, everything else as it stands.

    >>> prose("a|b_c, typed technique=mixup+ema; Zhang et al., arXiv:1710.09412")
    'a\\\\|b\\\\_c, typed `technique=mixup+ema`; Zhang et al., [arXiv:1710.09412](https://arxiv.org/abs/1710.09412)'
    """
    parts, place = [], 0
    for found in CODE.finditer(text):
        parts += [escaped(text[place : found.start()]), code(found[0])]
        place = found.end()
    return "".join([*parts, escaped(text[place:])])


def escaped(text: str) -> str:
    """Escape what Markdown would read as a mark, and link papers."""
    return ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", MARKS.sub(r"\\\1", text))
