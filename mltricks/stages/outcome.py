"""What a run of stages comes to: its summary, its files and its page, from those of its stages."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mltricks.observers.create import InSweep
from mltricks.observers.formats import shown_folder
from mltricks.session import BEST
from mltricks.stages.record import Stage
from mltricks.summary import Summary, read_summary

RESULTS = (Path("metrics.jsonl"), BEST)
"""Files of the last stage that are also the result of the whole, whose folder predicts like that of a run."""


def result_of_last(whole: Summary, last: Summary) -> Summary:
    """The summary of the last stage, as that of the whole."""
    mine = ("overrides", "name", "tags", "notes", "folder", "started", "worker")
    return replace(last, **{name: getattr(whole, name) for name in mine})


def told(summary: Summary, folder: Path, stages: Sequence[Stage], taken: Collection[str]) -> Summary:
    """The summary of the whole, with what each stage came to.

    The seconds are those of all stages, also of those that another trial has computed: the price of the result.
    """
    found = [(stage, read_summary(stage.folder / "summary.json")) for stage in stages]
    summary.stages = [{**told_of(stage, folder, done), "taken": stage.name in taken} for stage, done in found]
    seconds = [done.seconds for _, done in found if done is not None]
    summary.seconds, summary.ended = round(sum(seconds), 3), round(time.time(), 3)
    return summary


def told_of(stage: Stage, folder: Path, done: Summary | None) -> dict[str, Any]:
    kept = ("status", "steps", "epochs", "seconds", "objective", "val", "test", "error")
    told = {"name": stage.name, "folder": os.path.relpath(stage.folder, folder), "overrides": list(stage.overrides)}
    return {**told, **({"status": "not begun"} if done is None else {name: getattr(done, name) for name in kept})}


def link_results(folder: Path, last: Path) -> None:
    """Give the files of the last stage a second name in the folder of the whole; a copy where there are no links."""
    for path in RESULTS:
        if not (last / path).is_file():
            continue
        (folder / path).unlink(missing_ok=True)
        (folder / path).parent.mkdir(exist_ok=True)
        try:
            os.link(last / path, folder / path)
        except OSError:
            shutil.copyfile(last / path, folder / path)


def report(
    cfg: Mapping[str, Any], folder: Path, summary: Summary, stages: Sequence[Stage], in_sweep: InSweep | None
) -> None:
    """Write the page of the whole, where its stages have pages."""
    if cfg["plots"] is True or (cfg["plots"] == "auto" and in_sweep is None):
        from mltricks.stages.page import write_page

        write_page(folder, summary, stages)
        if in_sweep is None and cfg["progress"] != "none":
            print(f"all stages: {shown_folder(folder / 'report.html')}")
