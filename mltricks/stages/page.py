"""The page of a run of stages: what each stage did and came to, with links to their own pages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mltricks.config import names
from mltricks.figures.page import render
from mltricks.figures.parts import Cell, Chart, Code, Compact, Section, Text
from mltricks.observers.files import read_records
from mltricks.observers.formats import duration, number, shown_folder
from mltricks.observers.run_page.result import STYLES, cards
from mltricks.observers.run_page.training import curves_section
from mltricks.observers.run_page.write import TEMPLATES, attempt, save_pictures
from mltricks.process.atomic import write_atomically
from mltricks.stages.record import Stage
from mltricks.summary import Summary, read_summary


def write_page(folder: Path, summary: Summary, stages: Sequence[Stage]) -> None:
    """Write ``report.html`` and ``plots/`` of a run of stages.

    Args:
        folder: of the whole.
        summary: of the whole.
        stages: in order.
    """
    body = list(sections(folder, summary, stages))
    save_pictures(body, folder / "plots")
    listed = " → ".join(stage.name for stage in stages)
    version, named = summary.versions.get("mltricks", ""), [listed] if summary.name else []
    head: dict[str, Any] = {
        "title": summary.name or listed,
        "subtitle": " · ".join([*named, shown_folder(folder), f"mltricks {version}"]),
        "tags": summary.tags,
        "notes": summary.notes,
        "error": summary.error,
        "cards": cards(replace(summary, steps=sum(told.get("steps", 0) for told in summary.stages))),  # as the time
    }
    content = render("run.html", folder=TEMPLATES, **head, body=body)
    write_atomically(folder / "report.html", lambda partial: partial.write_bytes(content))


def sections(folder: Path, summary: Summary, stages: Sequence[Stage]) -> Iterator[Section]:
    """The sections of the page, in order."""
    yield Section("Stages", [Compact(["stage", "time", "result", "status"], list(rows(folder, stages, summary)))])
    for stage in stages:
        if (found := attempt(f"learning curves of {stage.name}", partial(curves_of, stage))) is not None:
            yield found
    yield Section("Commands", [Text("Run it again:"), Code(names.command(summary.overrides))])


def rows(folder: Path, stages: Sequence[Stage], summary: Summary) -> Iterator[list[Cell]]:
    """A row for every stage; its name leads to its page."""
    for stage, told in zip(stages, summary.stages, strict=True):
        page = stage.folder / "report.html"
        link = Path(os.path.relpath(page, folder)).as_posix() if page.is_file() else ""
        status = told["status"].replace("_", " ") + (", in another run" if told["taken"] else "")
        yield [
            Cell(stage.name, " ".join(map(names.without_brackets, stage.overrides)), link=link),
            Cell(duration(told["seconds"]), f"{told['steps']:,} updates" if told["steps"] else ""),
            Cell(*result_of(told)),
            Cell(status, tone=STYLES.get(told["status"], "")),
        ]


def result_of(told: dict[str, Any]) -> tuple[str, str]:
    """The objective of a stage, and the same metric on the test split."""
    objective = told["objective"]
    name = str(objective["name"]).rpartition("/")[2]
    below = f"test/{name} {number(told['test'][name])}" if name in told["test"] else ""
    return f"{objective['name']} {number(objective['value'])}", below


def curves_of(stage: Stage) -> Section | None:
    """The learning curves of a stage that trained."""
    done, records = read_summary(stage.folder / "summary.json"), read_records(stage.folder / "metrics.jsonl")
    epochs = [record for record in records if record["split"] == "val" and record["epoch"]]
    if done is None or not epochs:
        return None
    per_epoch = max(1, round(epochs[-1]["step"] / epochs[-1]["epoch"]))
    made = curves_section(records, per_epoch, done.objective["name"].rpartition("/")[2], done)
    if made is None:
        return None
    charts = [replace(part, name=f"{part.name}_{stage.name}") for part in made.parts if isinstance(part, Chart)]
    return replace(made, title=f"{made.title}: {stage.name}", parts=charts)
