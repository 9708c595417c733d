"""Writes ``report.html`` and ``plots/`` of a run. An error in one part leaves out that part."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mltricks.evaluate import steered_by
from mltricks.figures import still
from mltricks.figures.gallery import save_gallery
from mltricks.figures.page import render
from mltricks.figures.parts import Chart, Gallery, Section
from mltricks.objectives.base import Outcome
from mltricks.observers.files import read_records
from mltricks.observers.layers import FILE as LAYERS
from mltricks.observers.run_page import about, data_card, reconstructions, result, training
from mltricks.observers.run_page.feature_map import features_section
from mltricks.observers.run_page.sheet import TestSheet
from mltricks.process.atomic import write_atomically
from mltricks.trivial import linear

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

TEMPLATES = Path(__file__).parent / "templates"


def attempt(what: str, do: Callable[[], Any]) -> Any:
    """Call ``do``; on an error print one line to stderr and return ``None``."""
    try:
        return do()
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        print(f"plots: {what} could not be made ({type(error).__name__}: {reason})", file=sys.stderr)
        return None


def write_report(run: Run, folder: Path, summary: Summary, parts: Sequence[Outcome]) -> Path:
    """Write the pictures, and the page with those parts that could be made.

    Args:
        run: the run; its data are read again for samples.
        folder: of the run.
        summary: its result.
        parts: the objective's digests of the batches of the test split, in order.
    """
    begun, batch_size = time.perf_counter(), run.cfg["eval_batch_size"]
    floor = attempt("linear model", lambda: linear(run.data, run.objective, batch_size, "val", "test"))
    sections = sections_of(run, folder, summary, gather(parts), floor or {})
    save_pictures(sections, folder / "plots")
    summary.phases["report"] = round(time.perf_counter() - begun, 3)
    sections = with_time(run, folder, summary, sections)
    head = result.head(run, folder, summary)
    path = folder / "report.html"
    content = render("run.html", folder=TEMPLATES, **head, body=sections)
    write_atomically(path, lambda partial: partial.write_bytes(content))
    return path


def sections_of(
    run: Run, folder: Path, summary: Summary, outcome: Outcome, floor: dict[str, dict[str, float]]
) -> list[Section]:
    """The sections of the page, in order, without those that do not apply or could not be made."""
    records, layers = read_records(folder / "metrics.jsonl"), read_records(folder / LAYERS)
    sheet, score = TestSheet(run.data.info, run.data.test), steered_by(run).score
    errors = run.objective.sections(outcome, sheet) if outcome else []
    makers: dict[str, Callable[[], Section | None]] = {
        "result": partial(result.table_section, summary, floor),
        "commands": partial(about.commands_section, run, folder, summary),
        "learning curves": partial(training.curves_section, records, run.source.steps_per_epoch, score, summary),
        "data card": partial(data_card.data_section, run),
        "training samples": partial(data_card.samples_section, run),
        "reconstructions": partial(reconstructions.reconstructions_section, run),
        **{f"error analysis {i}": make for i, make in enumerate(errors)},
        "features": partial(features_section, run, folder),
        "layers": partial(training.layers_section, layers),
        "schedule": partial(training.schedule_section, run.hypers),
        "changes": partial(about.changes_section, summary),
        "environment": partial(about.environment_section, run, summary),
        "configuration": partial(about.configuration_section, run),
    }
    made = [attempt(what, make) for what, make in makers.items()]
    return [section for section in made if section is not None]


def with_time(run: Run, folder: Path, summary: Summary, sections: list[Section]) -> list[Section]:
    """The sections with that of the time, which also has the time of making the others."""
    records = read_records(folder / "metrics.jsonl")
    made = attempt("time", partial(training.time_section, records, run.source.steps_per_epoch, summary))
    if made is not None:
        save_pictures([made], folder / "plots")
        at = next((i for i, s in enumerate(sections) if s.title in (about.CHANGED, about.ENVIRONMENT)), len(sections))
        sections = [*sections[:at], made, *sections[at:]]
    return paired(sections)


def paired(sections: Sequence[Section]) -> list[Section]:
    """The sections, where a half one without another beside it takes the whole width."""
    found: list[Section] = []
    for section in sections:
        beside = bool(found) and found[-1].half and sum(1 for s in takewhile(lambda s: s.half, reversed(found))) % 2
        if beside and not section.half:
            found[-1] = replace(found[-1], half=False)
        found.append(section)
    return found


def gather(parts: Sequence[Outcome]) -> Outcome:
    """The digests of all batches as one, on the CPU."""
    if not parts or not all(parts):
        return {}
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def save_pictures(sections: Sequence[Section], folder: Path) -> None:
    """Write the figures of the sections as JSON, and those that are asked for as PNG."""
    for part in [part for section in sections for part in section.parts]:
        if isinstance(part, Chart):
            attempt(f"plots/{part.name}.json", partial(still.write_json, part.figure, folder / f"{part.name}.json"))
            if part.still:
                attempt(f"plots/{part.name}.png", partial(still.save, part.figure, folder / f"{part.name}.png"))
        elif isinstance(part, Gallery) and part.name:
            path = folder / f"{part.name}.png"
            attempt(f"plots/{part.name}.png", partial(save_gallery, part.pixels, part.captions, path))
