"""The lines that a run ends with: its result, where its report is, and how to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mltricks.config.overrides import typed
from mltricks.config.stages import LIST
from mltricks.functional.self_supervised import COLLAPSED, SPREAD
from mltricks.observers.formats import duration, number, shown_folder, wrapped
from mltricks.summary import WHOLE, Summary, read_summary
from mltricks.trivial import beats


def closing(summary: Summary, folder: Path, cfg: dict[str, Any], num_val: int, width: int) -> list[str]:
    """The lines for the end of a run; empty if its error message suffices.

    Args:
        summary: of the run.
        folder: its output folder.
        cfg: its configuration.
        num_val: samples of the validation split.
        width: columns of the terminal; paths and commands are never broken.
    """
    where = shown_folder(folder)
    if summary.status == "interrupted":
        return interrupted(f" at step {summary.steps}", resumable(folder))
    if not summary.test:
        return []
    report = folder / "report.html"
    return [
        *wrapped("", [ended(summary, cfg)], width),
        *split_lines("validation", summary, "val", width),
        *split_lines("test", summary, "test", width),
        *(line for said in warnings(summary, num_val) for line in wrapped("  warning     ", [said], width)),
        f"  {shown_folder(report) if report.is_file() else where}",
        f"  python -m mltricks job=predict {typed('checkpoint', where)}",
    ]


def interrupted(where: str, folder: Path) -> list[str]:
    """The lines of an interrupted run, or of a run of stages, which goes on as a whole."""
    return [f"interrupted{where}; continue with:", f"  python -m mltricks {typed('resume', shown_folder(folder))}"]


def resumable(folder: Path) -> Path:
    """The folder by which a stopped run goes on: that of an unfinished run of stages, if it is one of them."""
    whole = read_summary(folder.parent / "summary.json")
    mine = (folder.parent / LIST).is_file() and (whole is None or whole.status not in WHOLE)
    return folder.parent if mine else folder


def ended(summary: Summary, cfg: dict[str, Any]) -> str:
    """Whether the run went to its end, and why if not."""
    took = f"{summary.steps:,} step{'s' if summary.steps != 1 else ''} in {duration(summary.seconds)}"
    if summary.status != "stopped_early":
        return f"{summary.status}: {took}"
    patience, score = cfg["early_stopping"]["patience"], summary.objective["name"].replace("/", " ")
    last = summary.epoch_of.get("train")
    return (
        f"stopped early at epoch {last} of {cfg['epochs']}, after {took}: {score} did not improve in {patience} "
        f"validation{'s' if patience > 1 else ''} (early_stopping.patience)"
    )


def split_lines(name: str, summary: Summary, split: str, width: int) -> list[str]:
    """The metrics of a split, the score first, with the epoch of their weights."""
    metrics = getattr(summary, split)
    score = summary.objective["name"].rpartition("/")[2]
    ordered = sorted(metrics, key=lambda metric: metric != score)
    parts = [f"{metric} {number(metrics[metric])}" for metric in ordered]
    parts += [f"(epoch {summary.epoch_of[split]})"] if split in summary.epoch_of else []
    return wrapped(f"  {name:<12}", parts, width)


def warnings(summary: Summary, num_val: int) -> list[str]:
    """Warnings: the run is not significantly better than a constant prediction; its features collapsed."""
    spread = summary.train.get(SPREAD, 1.0)
    collapsed = f"the features of all samples are nearly the same: {SPREAD} {number(spread)}, and 0 is collapse"
    return [*constant(summary, num_val), *([collapsed] if spread < COLLAPSED else [])]


def constant(summary: Summary, num_val: int) -> list[str]:
    """A warning if the run is not significantly better than a constant prediction."""
    floor, score = summary.trivial.get("val", {}), summary.objective["name"].rpartition("/")[2]
    if not floor or beats(summary.val, floor, score, summary.objective["direction"] == "maximize", num_val):
        return []
    name = score if score in floor else "loss"
    return [f"no better than a constant prediction, whose validation {name} is {number(floor[name])}"]
