"""Finds the folders of the jobs below the folder of a sweep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

MARKS = ("summary.json", "metrics.jsonl", ".hydra")
"""What a run leaves, or Hydra before it begins."""
RECORDS = ("sweep.json", "multirun.yaml")
"""What a sweep leaves in its folder."""
OF_A_RUN = ("checkpoints", "plots", "wandb", "tensorboard")
"""Folders that a run has, and no runs are in."""
SET_ASIDE = re.compile(r"\.interrupted-\d+$")
"""How the folder of an attempt is called that was stopped and begun anew."""
DEPTH = 3
"""How far below the sweep's folder runs lie at most: ``<trial>/<replicate>``, and one for who names folders so."""


def job_folders(sweep: Path) -> list[Path]:
    """The output folders of the jobs, in the order of their numbers, without interrupted attempts."""
    return sorted(_below(sweep, DEPTH), key=lambda path: natural(path.relative_to(sweep).as_posix()))


def sweeps_in(folder: Path) -> list[Path]:
    """The sweeps below a folder that is not a sweep itself, the newest last."""
    if any((folder / name).exists() for name in RECORDS):
        return []
    below = [p for d in range(1, DEPTH + 1) for name in RECORDS for p in folder.glob("/".join(["*"] * d + [name]))]
    newest = {path.parent: path.stat().st_mtime_ns for path in sorted(below, key=lambda path: path.stat().st_mtime_ns)}
    return sorted(newest, key=lambda sweep: newest[sweep])


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for path in folder.iterdir():
        name = path.name
        if depth == 0 or name[0] == "." or name in OF_A_RUN or SET_ASIDE.search(name) or not path.is_dir():
            continue
        if any((path / mark).exists() for mark in MARKS):
            yield path
        yield from _below(path, depth - 1)


def set_aside(sweep: Path) -> int:
    """Number of attempts that were interrupted and started again."""
    found = [*sweep.glob("*.interrupted-*"), *sweep.glob("*/*.interrupted-*")]
    return sum(path.is_dir() and bool(SET_ASIDE.search(path.name)) for path in found)


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key by which numbers inside names are sorted as numbers.

    >>> sorted(["10", "9", "2/1", "a2", "a10"], key=natural)
    ['2/1', '9', '10', 'a2', 'a10']
    """
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", text) if p]
