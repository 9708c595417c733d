"""The blocks of a page of the documentation: code that a test runs, and files that it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?:^ *`(my_\S+\.yaml)`:\n\n)?^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PLAIN = re.compile(r"python -m (mltricks[\w.]*)( .*)?")
SHELL = re.compile(r"[|&;<>$`(]")
"""Signs that a shell interprets; in quotes they are text."""


class Block(NamedTuple):
    """A block of code: its language, its text, and the file that it is to be saved as, if any."""

    language: str
    text: str
    file: str


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page in Markdown, in order; blocks within a list or a tab are indented."""
    found = []
    for name, indent, language, text in BLOCK.findall(page):
        text = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        first = text.partition("\n")[0]
        file = name or (first.removeprefix("# ") if language == "python" and first.startswith("# my_") else "")
        found.append(Block(language, text, file))
    return found


def commands_of(text: str) -> Iterator[str]:
    """The commands of a block, without comments; a line that ends with a backslash continues."""
    for line in text.replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            yield line
