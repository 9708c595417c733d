"""Writes both files of a sweep."""

from __future__ import annotations

from pathlib import Path

from mltricks.process.atomic import write_atomically


def write(folder: Path, reload_s: int | None = None) -> tuple[Path, Path]:
    """Write ``sweep.csv`` and ``sweep.html`` into the folder of a sweep; return their paths.

    Args:
        folder: of the sweep.
        reload_s: seconds after which the page loads itself again, while the sweep is watched; ``None``: never.

    Raises:
        ValueError: there is no such folder, or no job in it.
    """
    from mltricks.report.collect import collect
    from mltricks.report.page import page
    from mltricks.report.reload import reloading
    from mltricks.report.table import table

    sweep = collect(folder)
    document = page(sweep) if reload_s is None else reloading(page(sweep), reload_s)
    written = folder / "sweep.csv", folder / "sweep.html"
    for path, content in zip(written, (table(sweep).encode(), document), strict=True):
        write_atomically(path, lambda partial, content=content: partial.write_bytes(content))  # type: ignore[misc]
    return written
