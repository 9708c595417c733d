"""The report of a finished run: ``plots/*.png`` and ``report.html``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.data.info import Info
from mltricks.data.splits import Split
from mltricks.evaluate import steered_by
from mltricks.figures import page, plots
from mltricks.objectives.base import Outcome
from mltricks.observers import curves
from mltricks.observers.base import Observer
from mltricks.observers.closing import shown_folder
from mltricks.observers.files import read_records
from mltricks.process.atomic import write_atomically
from mltricks.trivial import linear

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

REPORTED = ("completed", "stopped_early", "diverged")
LONG = {"train": "training", "val": "validation", "test": "test"}
"""The full names of the splits."""


class Report(Observer):
    """Draws the report from ``metrics.jsonl`` and the outputs on the test split. Its errors do not fail the run."""

    def __init__(self) -> None:
        self.parts: list[Outcome] = []
        self.run: Run | None = None

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.run, self.folder = run, folder

    def tested(self, batch: Batch, outputs: Tensor) -> None:
        assert self.run is not None, "the run has started"
        objective = self.run.objective
        part = attempt("error analysis", lambda: objective.digest(outputs, batch["y"]))
        self.parts.append(part or {})

    def finish(self, summary: Summary) -> None:
        run = self.run
        if run is not None and summary.status in REPORTED:
            attempt("report.html", lambda: write_report(run, self.folder, summary, self.parts))


def attempt(what: str, do: Callable[[], Any]) -> Any:
    """Call ``do``; on an error print one line to stderr and return ``None``."""
    try:
        return do()
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        print(f"plots: {what} could not be made ({type(error).__name__}: {reason})", file=sys.stderr)
        return None


def write_report(run: Run, folder: Path, summary: Summary, parts: list[Outcome]) -> None:
    """Write the pictures, and the page with those that could be drawn."""
    records, outcome = read_records(folder / "metrics.jsonl"), gather(parts)
    floor = attempt("linear model", lambda: linear(run.data, run.objective, run.cfg["eval_batch_size"], "val", "test"))
    sections = [
        result_section(summary, floor or {}),
        curves_section(run, folder, records),
        *error_sections(run, folder, outcome),
    ]
    closing = [schedule_section(run, folder), about_section(run, folder, summary)]
    title = (
        " ".join(summary.overrides)
        or f"{type(run.model.module).__name__} on {run.cfg['data']['_target_'].rpartition('.')[2]}"
    )
    text = page.page(
        title, f"mltricks {summary.versions.get('mltricks', '')} · {shown_folder(folder)}", [*sections, *closing]
    )
    write_atomically(folder / "report.html", lambda partial: partial.write_text(text, encoding="utf-8"))


def draw(folder: Path, draw_figure: Callable[..., Any], *arguments: Any) -> str:
    """A picture, saved under the name of its drawing function, as HTML for the page; empty on an error."""
    name = draw_figure.__name__
    path = attempt(f"plots/{name}.png", lambda: plots.save(draw_figure, folder / "plots" / f"{name}.png", *arguments))
    return page.picture(path, wide=draw_figure in (curves.learning_curves, plots.predictions))


def result_section(summary: Summary, floor: dict[str, dict[str, float]] | None = None) -> str:
    """The main results, and every metric of every split beside those of trivial predictors.

    Args:
        summary: the run's summary.
        floor: metrics of a linear model by split.
    """
    score = summary.objective["name"].rpartition("/")[2]
    shown = sorted(summary.test.items(), key=lambda item: (item[0] != score, item[0] != "loss"))[:2]
    large = {"status": summary.status.replace("_", " "), **{f"test {name}": page.shown(value) for name, value in shown}}
    large |= {f"best {summary.objective['name'].replace('/', ' ')}": page.shown(summary.objective["value"])}
    large |= {"steps": f"{summary.steps:,}", "seconds": f"{summary.seconds:.1f}"}
    splits = {"train": summary.train, "val": summary.val, "test": summary.test}
    names = list(dict.fromkeys(name for metrics in splits.values() for name in metrics))
    rows = [
        [row_label(split, summary), *(metrics.get(name) for name in names)]
        for split, metrics in splits.items()
        if metrics
    ]
    for words, trivial in (("a constant prediction", summary.trivial), ("a linear model", floor or {})):
        rows += [[f"{words}, {LONG[split]}", *(found.get(n) for n in names)] for split, found in trivial.items()]
    if score in summary.trivial.get("test", {}):
        large[f"trivial predictor: test {score}"] = page.shown(summary.trivial["test"][score])
    error = f"<p>{page.escape(summary.error)}</p>" if summary.error else ""
    return page.cards(large, summary.status) + page.section("Result", error, page.table(["", *names], rows))


def row_label(split: str, summary: Summary) -> str:
    """The split and epoch of a row of metrics."""
    epoch = summary.epoch_of.get(split)
    said = {"train": f"{LONG['train']}, mean over epoch {{}}, the last", "val": f"{LONG['val']}, epoch {{}}, the best"}
    return said.get(split, "test, weights of epoch {}").format(epoch) if epoch else split


def curves_section(run: Run, folder: Path, records: list[dict[str, Any]]) -> str:
    known = [r for r in records if r["split"] in ("train", "val")]
    if not known:
        return ""
    drawn = draw(folder, curves.learning_curves, known, run.source.steps_per_epoch, steered_by(run).score)
    return page.section("Learning curves", drawn)


def schedule_section(run: Run, folder: Path) -> str:
    return page.section("Schedule", draw(folder, curves.schedule, run.hypers))


@dataclass(frozen=True)
class TestSheet:
    """The context in which an objective draws its part of a report.

    Attributes:
        info: describes the data.
        test: the test split.
        folder: the run's output folder.
    """

    info: Info
    test: Split
    folder: Path

    def draw(self, draw_figure: Callable[..., Any], *arguments: Any) -> str:
        return draw(self.folder, draw_figure, *arguments)

    def pictures(self, order: Tensor) -> Tensor | None:
        return self.info.input.pictures(next(self.test.batches([order]))["x"])


def gather(parts: list[Outcome]) -> Outcome:
    """The digests of all batches as one, on the CPU."""
    if not parts or not all(parts):
        return {}
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def error_sections(run: Run, folder: Path, outcome: Outcome) -> list[str]:
    """The objective's analysis of errors on the test split."""
    if not outcome:
        return []
    sheet = TestSheet(run.data.info, run.data.test, folder)
    return [attempt("error analysis", part) or "" for part in run.objective.sections(outcome, sheet)]


def about_section(run: Run, folder: Path, summary: Summary) -> str:
    """The command to repeat the run, its environment, and the whole configuration."""
    from omegaconf import OmegaConf

    versions = {**summary.versions, "device": summary.device, "parameters": f"{run.num_params:,}"}
    if summary.git:
        versions["git"] = summary.git["commit"][:12] + (" (changed)" if summary.git["changed"] else "")
    again = page.section("Run it again", page.code(command(summary, folder)))
    text = OmegaConf.to_yaml(OmegaConf.create(run.cfg))
    return (
        again
        + page.section("Versions", page.table([], versions.items()))
        + page.folded("Configuration", page.code(text))
    )


def command(summary: Summary, folder: Path) -> str:
    """The command that repeats a run; for a run composed in Python, code that reads its configuration."""
    from hydra.core.hydra_config import HydraConfig

    if summary.overrides or HydraConfig.initialized():
        return shlex.join(["python", "-m", "mltricks", *summary.overrides])
    path = f"{shown_folder(folder)}/config.yaml"
    return f"import mltricks\nfrom omegaconf import OmegaConf\n\nmltricks.train(OmegaConf.load({path!r}))"
