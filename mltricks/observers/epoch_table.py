"""The table of a run on the terminal: a row for every validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mltricks.functional.self_supervised import SPREAD
from mltricks.observers.base import Record, of_epoch
from mltricks.observers.formats import about, duration, number

LONGEST_TITLE = 12
SHORTEST = 8
"""Characters of a column of numbers, at least."""


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        group: the split above its title; empty: none.
        title: its title.
        width: characters.
        rank: on a narrow terminal, columns of the highest rank are left out first.
    """

    group: str
    title: str
    width: int
    rank: int = 0

    def cell(self, text: str) -> str:
        """The text, or as much of it as fits."""
        return text[: self.width].rjust(self.width)


class EpochTable:
    """The rows of a run. Its columns are chosen for the first row, whose records show which metrics there are.

    Args:
        num_epochs: epochs of the run.
        score: the validation metric that steers it.
        width: columns of the terminal.
    """

    def __init__(self, num_epochs: int, score: str, width: int):
        self.num_epochs, self.score, self.width = num_epochs, score, width
        self.columns: list[Column] = []
        self.gap = 2

    def lines(self, train: Record, val: Record, seconds: float, left: float | None, is_best: bool) -> list[str]:
        """The row of a validation, below the titles if it is the first.

        Args:
            train: the last training record; empty if there was none since a restart.
            val: the record of the validation.
            seconds: time since the last row, s.
            left: time that the run still takes, s; ``None`` at its end.
            is_best: whether this validation is the best so far.
        """
        cells = self.cells(of_epoch(train), val, seconds, left, is_best)
        titles = [] if self.columns else self.choose(cells)
        row = (" " * self.gap).join(column.cell(cells[column.group, column.title]) for column in self.columns)
        return [*titles, row.rstrip()]

    def cells(
        self, train: Record, val: Record, seconds: float, left: float | None, is_best: bool
    ) -> dict[tuple[str, str], str]:
        """The text of every cell, by group and title."""
        cells = {("", "epoch"): f"{val['epoch']}/{self.num_epochs}"}
        for split, record in (("train", train), ("validation", val)):
            names = {"loss": "loss", self.score: self.score, SPREAD: "feat.std"}
            cells |= {(split, title): number(record[name]) for name, title in names.items() if name in record}
        cells["", "lr"] = f"{train['lr']:.2g}" if "lr" in train else ""
        cells |= {("", "time"): duration(seconds), ("", "left"): "" if left is None else about(left)}
        return cells | {("", "best"): "best" if is_best else ""}

    def choose(self, cells: dict[tuple[str, str], str]) -> list[str]:
        """Choose the columns for these cells; return the lines of their titles."""
        ranks = {"lr": 4, "time": 3, "left": 1, "best": 2}
        fixed = {"epoch": max(5, 2 * len(str(self.num_epochs)) + 1), "lr": 7, "time": 7, "left": 7, "best": 4}
        columns = []
        for group, title in cells:
            size = fixed.get(title) if not group else min(max(len(title), SHORTEST), LONGEST_TITLE)
            rank = ranks.get(title, 0) if not group else (5 if title != "loss" else 1) if group == "train" else 0
            columns.append(Column(group, title, size or SHORTEST, rank))
        self.columns, self.gap = fit(columns, self.width)
        return [line for line in self.titles() if line]

    def titles(self) -> list[str]:
        """The names of the splits, each above its columns, and the titles."""
        above, gap = "", " " * self.gap
        for group in dict.fromkeys((column.group or column.title) for column in self.columns):
            mine = [column for column in self.columns if group == (column.group or column.title)]
            span = sum(column.width for column in mine) + self.gap * (len(mine) - 1)
            named = f" {group} ".center(span, "-") if len(mine) > 1 else group[:span].rjust(span)
            named = named if mine[0].group else " " * span
            above += (gap if above else "") + named
        titles = gap.join(column.cell("" if column.title == "best" else column.title) for column in self.columns)
        return [above.rstrip(), titles.rstrip()]


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], int]:
    """The columns that fit into a line, and the spaces between them.

    Titles are shortened first, then the spaces; then columns are left out.
    """
    short = [replace(column, width=min(column.width, SHORTEST)) if column.group else column for column in columns]
    for tried, gap in ((list(columns), 2), (short, 2), (short, 1)):
        if total(tried, gap) <= width:
            return tried, gap
    while total(short, 1) > width and max(column.rank for column in short):
        last = max(short, key=lambda column: column.rank)
        short = [column for column in short if column is not last]
    return short, 1


def total(columns: Sequence[Column], gap: int) -> int:
    """Characters of a row."""
    return sum(column.width for column in columns) + gap * (len(columns) - 1)
