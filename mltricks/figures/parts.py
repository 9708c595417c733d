"""What a page shows, as data: sections of charts, tables, galleries and texts. ``templates/sections.html`` draws them.

Legend: N pictures, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mltricks.figures.base import Figure


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        name: of its file in ``plots/``, without extension.
        figure: as data.
        still: whether a picture ``plots/NAME.png`` is drawn too, which takes a tenth of a second.
    """

    kind: ClassVar[str] = "chart"
    name: str
    figure: Figure
    still: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers; ``None`` is an empty cell."""

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Cell:
    """A text with a smaller one below it.

    Attributes:
        text: in the ink of the page, or coloured by its tone.
        below: in a softer colour; may be empty.
        tone: ``good``, ``bad``, or empty.
        link: the relative address that the text leads to; empty for none.
    """

    text: str
    below: str = ""
    tone: str = ""
    link: str = ""


@dataclass(frozen=True)
class Compact:
    """A table of cells that fits every screen: texts wrap, and it never scrolls sideways."""

    kind: ClassVar[str] = "compact"
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Verdicts:
    """Sentences, each with a tone: ``good``, ``bad`` or empty."""

    kind: ClassVar[str] = "verdicts"
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Step:
    """One of several steps.

    Attributes:
        label: its number.
        name: what is done.
        verdict: one word.
        tone: colour of the verdict: ``good``, ``bad``, ``fail`` or empty.
        words: one sentence.
        figure: what it measured; ``None`` if nothing.
        advice: what to do; may be empty.
        more: sentences that the reader has to open.
        jobs: numbers of its jobs.
    """

    label: str
    name: str
    verdict: str
    tone: str
    words: str
    figure: Figure | None = None
    advice: str = ""
    more: Sequence[str] = ()
    jobs: Sequence[int] = ()


@dataclass(frozen=True)
class Steps:
    """Steps from top to bottom."""

    kind: ClassVar[str] = "steps"
    rows: Sequence[Step]


@dataclass(frozen=True)
class Gallery:
    """Pictures with captions.

    Attributes:
        pixels: (N, H, W, 3) uint8, on the CPU.
        captions: for each picture a bold and a plain part.
        name: if given, the pictures are also saved as ``plots/NAME.png``.
        wide: whether a picture is several beside each other.
    """

    kind: ClassVar[str] = "gallery"
    pixels: Any
    captions: Sequence[tuple[str, str]]
    name: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    words: str


@dataclass(frozen=True)
class Code:
    """A command or code, with a button that copies it."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Marked:
    """A text whose pieces have a background of different strength: pairs of a piece and a level in [0, 1]."""

    kind: ClassVar[str] = "marked"
    pieces: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Folded:
    """Parts that the reader has to open."""

    kind: ClassVar[str] = "folded"
    title: str
    parts: Sequence[Part]


Part = Chart | Table | Compact | Verdicts | Steps | Gallery | Text | Code | Marked | Folded


@dataclass(frozen=True)
class Section:
    """A part of a page with a title.

    Attributes:
        title: the heading.
        parts: what it shows, in order.
        half: whether it may stand beside another half one.
        folded: whether the reader has to open it.
        name: by which a link in the page leads to it; empty if none does.
    """

    title: str
    parts: Sequence[Part]
    half: bool = False
    folded: bool = False
    name: str = ""
