"""The table and the page of a sweep, written when it ends, whichever sweeper ran it and however it ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


class SweepPage(Callback):
    """Hydra calls this at the end of every multirun, also of one that failed or was interrupted."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Write ``sweep.csv`` and ``sweep.html``; what fails here fails no sweep."""
        from mltricks.report.folders import job_folders
        from mltricks.report.write import write

        folder = Path(config.hydra.sweep.dir)
        try:
            if folder.is_dir() and job_folders(folder):
                print(f"sweep: {write(folder)[1]}")
        except Exception as error:
            print(f"sweep: the page could not be written ({type(error).__name__}: {error})", file=sys.stderr)
