"""The rows of docs/few_labels.md: one command each."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        table: name of the table.
        name: of the method and its data.
        columns: heads of the figures.
        stages: where each figure stands: the name of a stage, or empty for the run itself.
        overrides: of the command, without the seeds.
        published: the figure of the source, with its setting; ``-`` for none.
    """

    table: str
    name: str
    columns: tuple[str, ...]
    stages: tuple[str, ...]
    overrides: tuple[str, ...]
    published: str = "-"

    @property
    def folder(self) -> str:
        """The name of the folder of its sweep."""
        return re.sub(r"\W+", "_", f"{self.table}_{self.name}").strip("_").lower()


ROWS: tuple[Row, ...] = ()
