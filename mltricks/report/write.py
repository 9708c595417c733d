"""Writes both files of a sweep."""

from __future__ import annotations

from pathlib import Path

from mltricks.process.atomic import write_atomically


def write(folder: Path) -> tuple[Path, Path]:
    """Write ``sweep.csv`` and ``sweep.html`` into the folder of a sweep; return their paths.

    Raises:
        ValueError: there is no such folder, or no job in it.
    """
    from mltricks.report.collect import collect
    from mltricks.report.page import page
    from mltricks.report.table import table

    sweep = collect(folder)
    written = folder / "sweep.csv", folder / "sweep.html"
    for path, content in zip(written, (table(sweep).encode(), page(sweep)), strict=True):
        write_atomically(path, lambda partial, content=content: partial.write_bytes(content))  # type: ignore[misc]
    return written
