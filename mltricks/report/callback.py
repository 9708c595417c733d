"""Writes the table and the page of a sweep when it ends, for any sweeper, also after failures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

RECORD = "multirun.yaml"
"""Hydra's own record of a sweep."""


class SweepPage(Callback):
    """Writes the table and the page at the end of every multirun; Hydra calls it after failures and interrupts too.

    The page and the trackers need a record of the command. Some of Hydra's sweepers write none, so it is written at
    the start.
    """

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Write ``multirun.yaml`` for sweepers that are not ours; ours write it themselves."""
        from omegaconf import OmegaConf

        if not str(config.hydra.sweeper.get("_target_", "")).startswith("hydra_plugins.mltricks"):
            folder = Path(config.hydra.sweep.dir)
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(config, folder / RECORD)

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Write ``sweep.csv`` and ``sweep.html``; an error here does not fail the sweep."""
        from mltricks.report.folders import job_folders
        from mltricks.report.write import write
        from mltricks.sweep.record import close

        folder = Path(config.hydra.sweep.dir)
        try:
            if not (folder / RECORD).is_file():  # the sweep was refused before it began
                return
            if not job_folders(folder):
                remove_if_unused(folder)
            else:
                print(f"sweep: {write(folder)[1]}")
            close(folder)
        except Exception as error:
            close(folder)  # marks the sweep as finished: repeating the command would not write the page either
            print(f"sweep: the page could not be written ({type(error).__name__}: {error})", file=sys.stderr)


def remove_if_unused(folder: Path) -> None:
    """Remove a folder that holds only Hydra's record: the sweep was refused."""
    from mltricks.process.atomic import remove_empty

    if {path.name for path in folder.iterdir()} == {RECORD}:
        (folder / RECORD).unlink()
        remove_empty(folder)
