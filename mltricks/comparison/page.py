"""``compare.html``: the comparison as sections of a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mltricks.comparison.compared import Compared
from mltricks.comparison.console import seeds
from mltricks.comparison.entry import Entry
from mltricks.comparison.grouping import Configuration
from mltricks.comparison.scores import Score, epochs_of, score, seconds_of
from mltricks.config.names import command
from mltricks.figures import comparison as draw
from mltricks.figures.page import render
from mltricks.figures.parts import Chart, Code, Part, Section, Table, Text, Verdicts
from mltricks.observers.run_page.words import duration
from mltricks.process.atomic import write_atomically
from mltricks.sweep.measured import FOLD, is_repeat

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "compare.html"
NARROW = 3
"""Configurations whose differences fit half the page."""
OVER = {
    "seeds": "of several runs over their seeds (Student's t)",
    "folds": "of several runs over their folds (Student's t; rather too narrow, as folds share training samples)",
    "runs": "of several runs over their seeds and folds (Student's t)",
    "samples": "of a single run over the test samples (Wilson), which says nothing about other seeds",
}
"""What an interval is over."""


def write(found: Compared, folder: Path) -> Path:
    """Write the page into a folder; return its path."""
    text = render("compare.html", folder=TEMPLATES, **head(found), body=sections(found))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PAGE, lambda partial: partial.write_bytes(text))
    return folder / PAGE


def head(found: Compared) -> dict[str, Any]:
    """The values of the page's head: title, subtitle and cards."""
    runs, num = len(found.entries), len(found.configurations)
    first = found.configurations[0].settings
    shared = [str(first[key]) for key in ("data", "model") if all(row.key != key for row in found.differences)]
    cards: list[tuple[str, Any, str]] = [("runs", runs, ""), ("configurations", num, "")]
    if found.best is not None and num > 1:
        top = found.configurations[found.best]
        cards.append(("best by validation", found.names[found.best], "good"))
        for split, name in (("val", "validation"), ("test", "test")):
            measured = score(top, split, found.metric)
            cards += [(f"its {name} {found.metric}", measured.value, "")] if measured else []
    title = " or ".join(found.names) if 1 < num < 4 and len(found.names[0]) > 1 else f"Comparison of {runs} runs"
    return {"title": title, "subtitle": " · ".join([*shared, f"{runs} runs compared"]), "cards": cards}


def sections(found: Compared) -> list[Section]:
    """The sections of the page, in order."""
    return [
        differences_section(found),
        *warnings_section(found),
        results_section(found),
        curves_section(found),
        runs_section(found),
        commands_section(found),
    ]


def warnings_section(found: Compared) -> list[Section]:
    """Reasons to be careful, beside the differences where these are narrow; no section without a reason."""
    listed = Verdicts([(text, "bad") for text in found.warnings])
    return [Section("Read this first", [listed], half=len(found.names) <= NARROW)] if found.warnings else []


def differences_section(found: Compared) -> Section:
    """The settings in which the configurations differ."""
    rows: list[list[Any]] = [[row.key, *row.values] for row in found.differences]
    rows.append(["seeds", *(seeds([e.seed for e in one.counted]).partition(" ")[2] for one in found.configurations)])
    said = (
        "All other settings are equal, besides those that one option alone has."
        if found.differences
        else "The runs differ in their seeds alone."
    )
    half = len(found.names) <= NARROW and bool(found.warnings)
    return Section("What differs", [Table(["setting", *found.names], rows), Text(said)], half=half)


def results_section(found: Compared) -> Section:
    """Scores with their epochs and intervals, losses, time and parameters."""
    losses = ["val loss", "test loss"] if found.metric != "loss" else []
    head = ["", f"val {found.metric}", f"test {found.metric}", "epoch", "time", "parameters", "runs", *losses]
    rows = [result(name, one, found.metric) for name, one in zip(found.names, found.configurations, strict=True)]
    table = Table(head, [row[: len(head)] for row in rows])
    return Section("Results", [table, *forest(found), Text(intervals(found))])


def result(name: str, one: Configuration, metric: str) -> list[Any]:
    """The row of a configuration, with the losses at its end."""
    val, test, *losses = (shown(score(one, split, m)) for m in (metric, "loss") for split in ("val", "test"))
    size = next((e.summary.num_params for e in one.entries if e.summary.num_params is not None), None)
    time = seconds_of(one)
    lost = sorted({entry.summary.status for entry in one.counted if not entry.counts})
    runs = f"{len(one.whole)} of {len(one.counted)} ({', '.join(lost)})" if lost else f"{len(one.whole)}"
    numbers = [epochs_of(one, "val") or "-", "-" if time is None else duration(time), "-" if size is None else size]
    return [name, val, test, *numbers, runs, *losses]


def shown(found: Score | None) -> str:
    """A score with its interval in brackets."""
    if found is None:
        return "-"
    return f"{found.value:.4f}" if found.low is None else f"{found.value:.4f} [{found.low:.3f}, {found.high:.3f}]"


def forest(found: Compared) -> list[Part]:
    """The scores on the test split with their intervals, as a figure."""
    measured = [score(one, "test", found.metric) for one in found.configurations]
    if not any(measured):
        return []
    rows = [(name, s.value, s.low, s.high) for name, s in zip(found.names, measured, strict=True) if s is not None]
    colors = [i for i, s in enumerate(measured) if s is not None]
    return [Chart("test_scores", draw.scores(rows, colors, f"test {found.metric}"))]


def intervals(found: Compared) -> str:
    """What the intervals and the epochs stand for."""
    measured = [score(one, "test", found.metric) for one in found.configurations]
    kinds = sorted({OVER[s.over] for s in measured if s is not None and s.over})
    said = "The epoch is that of the best validation, whose weights are tested. Validation alone chooses the best. "
    return said + (f"Intervals cover 95 %: {'; '.join(kinds)}." if kinds else "")


def curves_section(found: Compared) -> Section:
    """The curves of all runs."""
    titles = {"score": f"validation {found.metric}", "val": "validation loss", "train": "training loss"}
    titles = {key: t for key, t in titles.items() if key != "score" or found.metric != "loss"}
    panels = {
        title: [
            draw.Line(name, [(e.name, e.curves[key]) for e in one.counted])
            for name, one in zip(found.names, found.configurations, strict=True)
        ]
        for key, title in titles.items()
    }
    several = any(len(one.counted) > 1 for one in found.configurations)
    said = [Text("Thin lines are runs, thick ones their means.")] if several else []
    return Section("Learning curves", [Chart("curves", draw.curves(panels)), *said])


def runs_section(found: Compared) -> Section:
    """Every run, also those that are not counted."""
    scores = [f"validation {found.metric}", f"test {found.metric}"]
    head = ["run", "configuration", "seed", "status", *scores, "epoch", "time"]
    rows = []
    for name, one in zip(found.names, found.configurations, strict=True):
        repeated = {id(entry): first for entry, first in one.repeats}
        for entry in one.entries:
            said = f"repeats {repeated[id(entry)].name}" if id(entry) in repeated else entry.summary.status
            rows.append([str(entry.folder), name, entry.seed, said.replace("_", " "), *measured(entry, found.metric)])
    return Section("Runs", [Table(head, rows)])


def measured(entry: Entry, metric: str) -> list[Any]:
    """Scores, epoch and time of one run."""
    done = entry.summary
    scores = [done.val.get(metric), done.test.get(metric)]
    return [*("-" if s is None else s for s in scores), done.epoch_of.get("val", "-"), duration(done.seconds)]


def commands_section(found: Compared) -> Section:
    """The command of every configuration, and that of this comparison."""
    parts: list[Part] = []
    for name, one in zip(found.names, found.configurations, strict=True):
        first = one.counted[0]
        if first.summary.overrides or (first.folder / ".hydra").is_dir():  # a program may have composed another one
            parts += [Text(f"{name}:"), Code(command(own(first.summary.overrides, len(one.counted) > 1)))]
    runs = "+".join(str(entry.folder) for entry in found.entries)
    return Section("Commands", [*parts, Text("This comparison again:"), Code(command(["job=compare", f"runs={runs}"]))])


def own(overrides: Sequence[str], several: bool) -> list[str]:
    """The overrides of a run; without its seeds if it stands for several. A fold stays, as ``data.folds`` needs one."""
    keys = [text.partition("=")[0].lstrip("+") for text in overrides]
    return [text for key, text in zip(keys, overrides, strict=True) if not (several and is_repeat(key) and key != FOLD)]
