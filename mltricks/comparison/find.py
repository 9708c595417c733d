"""Finds the folders of the runs that are compared."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from mltricks.report.folders import RECORDS, natural

USAGE = "Type python -m mltricks job=compare runs=outputs/DATE/TIME+outputs/DATE/TIME, or the folder that holds them."
FILES = ("config.yaml", "metrics.jsonl")
"""Files that every run has from its start on."""


def find_runs(typed: Sequence[str]) -> list[Path]:
    """The folders of the runs, each once, in the order typed.

    Args:
        typed: folders of runs, or folders that hold several.

    Raises:
        ValueError: one of them is no run and holds none, or there are fewer than two runs.
    """
    found = {path.resolve(): path for words in typed for path in below(Path(words))}
    if len(found) < 2:
        given = f"is {next(iter(found.values()))} alone" if found else "is empty"
        raise ValueError(f"a comparison needs at least two runs, and runs {given}. {USAGE}")
    return list(found.values())


def below(folder: Path) -> list[Path]:
    """The folder itself if it is a run, or else the runs in it.

    Raises:
        ValueError: there is none.
    """
    if not folder.is_dir():
        what = "that is a file" if folder.is_file() else "there is no such folder"
        raise ValueError(f"runs={folder}: {what}. Give output folders of runs. {USAGE}")
    if is_run(folder):
        return [folder]
    if any((folder / name).exists() for name in RECORDS):
        raise ValueError(
            f"runs={folder} is a sweep, and its page compares its jobs: python -m mltricks.report "
            f"{shlex.quote(str(folder))}. To compare some of them, name their folders, as {folder}/0+{folder}/1."
        )
    if found := runs_in(folder):
        return found
    raise ValueError(f"runs={folder} is no run and holds none: a run has {' and '.join(FILES)}. {USAGE}")


def is_run(folder: Path) -> bool:
    """Whether a folder is the output folder of a run."""
    return all((folder / name).is_file() for name in FILES)


def runs_in(folder: Path) -> list[Path]:
    """The runs directly in a folder, sorted by name."""
    return sorted(filter(is_run, folder.iterdir()), key=lambda path: natural(path.name))
