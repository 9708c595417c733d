"""Finds the folders of the jobs below the folder of a sweep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mltricks.config.stages import LIST

MARKS = ("summary.json", "metrics.jsonl", ".hydra")
"""Names that mark a job's folder: a run or Hydra writes at least one of them."""
RECORDS = ("sweep.json", "multirun.yaml")
"""Names that mark a sweep's folder."""
OF_A_RUN = ("checkpoints", "plots", "wandb", "tensorboard", "stages")
"""Folders inside a job's or a sweep's folder that contain no jobs; in ``stages`` are the stages that trials share."""
SET_ASIDE = re.compile(r"\.interrupted-\d+$")
"""Suffix of the folder of an interrupted attempt that was started again."""
DEPTH = 3
"""Levels of folders searched for jobs: ``<trial>/<replicate>``, and one for a ``/`` in the user's ``subdir``."""


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
        if not (path / LIST).exists():
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
