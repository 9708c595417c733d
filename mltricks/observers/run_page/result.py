"""The head of a run's page and its table of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltricks.config.options import called
from mltricks.figures.parts import Section, Table
from mltricks.observers.closing import warnings
from mltricks.observers.formats import shown_folder
from mltricks.observers.run_page.words import duration

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

LONG = {"train": "training", "val": "validation", "test": "test"}
"""The full names of the splits."""
MAX_TECHNIQUES = 3
"""Most techniques that a title names."""
STYLES = {"completed": "good", "stopped_early": "good", "diverged": "bad", "failed": "bad", "interrupted": "bad"}


def head(run: Run, folder: Path, summary: Summary) -> dict[str, Any]:
    """The values of the page's head: title, subtitle, tags, notes, error and cards."""
    version = summary.versions.get("mltricks", "")
    what = title(run, summary) if summary.name else ""
    parts = [described(run) if what else "", shown_folder(folder), f"mltricks {version}", f"seed {run.cfg['seed']}"]
    return {
        "title": title(run, summary),
        "subtitle": " · ".join(part for part in parts if part),
        "tags": summary.tags,
        "notes": summary.notes,
        "error": summary.error or doubt(run, summary),
        "cards": cards(summary),
    }


def doubt(run: Run, summary: Summary) -> str:
    """What the run is warned about; empty if nothing is wrong, or if it has no result."""
    said = warnings(summary, len(run.data.val)) if summary.test else []
    return " ".join(f"Warning: {text}." for text in said)


def title(run: Run, summary: Summary) -> str:
    """The run's name, or else its data, model and techniques."""
    return summary.name or described(run)


def described(run: Run) -> str:
    """The data, the model and the techniques of a run in a few words."""
    names = list(run.techniques)
    listed = " + ".join(names) if len(names) <= MAX_TECHNIQUES else f"{len(names)} techniques"
    return " · ".join(part for part in (called(run.cfg["data"]), called(run.cfg["model"]), listed) if part)


def cards(summary: Summary) -> list[tuple[str, Any, str]]:
    """The large numbers: label, value, style."""
    score, objective = summary.objective["name"].rpartition("/")[2], summary.objective
    epoch = summary.epoch_of.get("val")
    at = f", epoch {epoch}" if epoch else ""
    found: list[tuple[str, Any, str]] = [("status", summary.status.replace("_", " "), STYLES.get(summary.status, ""))]
    found += [(f"test {score}", summary.test[score], "")] if score in summary.test else []
    found += [(f"{objective['name'].replace('val/', 'validation ')}{at}", objective["value"], "")]
    if score in summary.trivial.get("test", {}):
        found += [(f"test {score} of a constant prediction", summary.trivial["test"][score], "")]
    return [*found, ("updates", summary.steps, ""), ("time with validation and test", duration(summary.seconds), "")]


def table_section(summary: Summary, floor: dict[str, dict[str, float]] | None = None) -> Section:
    """Every metric of every split, with the epoch that it belongs to, beside those of trivial predictors.

    Args:
        summary: the run's summary.
        floor: metrics of a linear model by split.
    """
    splits = {"train": summary.train, "val": summary.val, "test": summary.test}
    trivials = {"a constant prediction": summary.trivial, "a linear model": floor or {}}
    every = [*splits.values(), *(metrics for found in trivials.values() for metrics in found.values())]
    names = list(dict.fromkeys(name for metrics in every for name in metrics))
    rows = [
        [row_label(split, summary), *(cell(metrics.get(name)) for name in names)]
        for split, metrics in splits.items()
        if metrics
    ]
    for words, trivial in trivials.items():
        rows += [[f"{words}, {LONG[split]}", *(cell(found.get(n)) for n in names)] for split, found in trivial.items()]
    return Section("Result", [Table(["", *names], rows)], half=True)


def cell(value: float | None) -> Any:
    """A metric in a table; a missing one is a dash."""
    return "-" if value is None else value


def row_label(split: str, summary: Summary) -> str:
    """The split and epoch of a row of metrics."""
    epoch = summary.epoch_of.get(split)
    said = {"train": f"{LONG['train']}, mean over epoch {{}}, the last", "val": f"{LONG['val']}, epoch {{}}, the best"}
    return said.get(split, "test, weights of epoch {}").format(epoch) if epoch else split
