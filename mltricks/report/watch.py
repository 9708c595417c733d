"""Keeps the page of a running sweep up to date: writes it again and again, and the page loads itself again.

Without a server: the page stays one file that opens from disk, works offline, and asks nothing of the sweep.
"""

from __future__ import annotations

import time
from pathlib import Path

from mltricks.report.folders import RECORDS, job_folders

EVERY = 5.0
"""Seconds between two writings, at least."""
SHARE = 0.1
"""Largest share of the time that writing takes: a sweep of many jobs trains on the same cores."""


def watch(folder: Path) -> Path:
    """Write the page until the sweep has ended; return its path.

    Args:
        folder: of the sweep, which may have no job yet.

    Raises:
        ValueError: it is no folder of a sweep.
    """
    from mltricks.report.write import write

    print(f"{folder / 'sweep.html'} follows the sweep until it ends; Ctrl-C stops that", flush=True)
    while any((folder / name).is_file() for name in RECORDS) and not job_folders(folder):
        time.sleep(1)
    pause = EVERY
    while not has_ended(folder):
        begun = time.perf_counter()
        write(folder, round(pause))
        pause = max(EVERY, (time.perf_counter() - begun) / SHARE)
        time.sleep(pause)
    return write(folder)[1]


def has_ended(folder: Path) -> bool:
    """Whether a sweep has ended: by its own record, or else by the number of its jobs."""
    from mltricks.report.collect import collect
    from mltricks.report.origin import read_origin
    from mltricks.report.state import state

    finished = read_origin(folder).finished
    return bool(state(collect(folder))["finished"]) if finished is None else finished
