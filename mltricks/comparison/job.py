"""``job=compare``: a table on the console, and the page ``compare.html`` in the output folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mltricks.comparison.compared import compared
from mltricks.comparison.console import lines
from mltricks.comparison.find import find_runs
from mltricks.comparison.page import write
from mltricks.config.names import shown
from mltricks.config.overrides import parse
from mltricks.observers.formats import shown_folder


def compare(cfg: Any, folder: Path, overrides: list[str], mode: str) -> None:
    """Compare the runs in ``job.runs``.

    Raises:
        ValueError: they are no runs, fewer than two, or the command has settings that change nothing.
    """
    for override in parse(overrides):
        if override.key_or_group.partition(".")[0].partition("/")[0] not in ("job", "hydra"):
            raise ValueError(f"{shown(override)} has no effect on job=compare: it only reads runs. Leave it out.")
    found = compared(find_runs([str(path) for path in cfg.job.runs]))
    path = write(found, folder)
    width = shutil.get_terminal_size((80, 24)).columns
    for line in lines(found, shown_folder(path), max(width, 60)):
        print(line)
