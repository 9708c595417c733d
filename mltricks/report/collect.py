"""Reads the folder of a sweep by any sweeper, ours or Hydra's, finished or not."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mltricks.report.curves import Curve, read_curves
from mltricks.report.files import read_json, read_yaml
from mltricks.report.folders import job_folders, set_aside, sweeps_in
from mltricks.report.origin import Origin, read_origin
from mltricks.report.values import differing, look_up, pairs, shown
from mltricks.summary import Summary, read_summary

COUNTED = ("completed", "stopped_early")
"""The statuses of jobs whose objectives are compared; other jobs did not train to their end."""
SPLITS = ("train", "val", "test")


@dataclass
class Row:
    """A job of a sweep.

    Attributes:
        name: path of its folder below that of the sweep, ``3`` or ``3/1``.
        status: as in ``summary.json``; ``unfinished`` without one.
        value: value of the objective; ``None`` if not finite.
        values: values of the swept keys, as text.
        overrides: overrides of the job, without those of Hydra.
        seconds, epochs: training time and length.
        error: reason of a failure or divergence; else empty.
        curves: learning curves of score and losses.
        metrics: by split (``train``, ``val``, ``test``) the final metrics.
        trivial: the objective of the constant prediction; ``None`` if unknown.
        has_report: whether it has a page of its own.
        started, ended: Unix times in seconds; ``None`` if unknown.
        worker: id of the process that ran it; ``None`` if unknown.
        num_params: number of trained parameters; ``None`` if unknown.
        scored_on: number of validation samples of which the objective is a share; ``None`` if it is none.
    """

    name: str
    status: str
    value: float | None
    values: dict[str, str]
    overrides: list[str]
    seconds: float
    epochs: int
    error: str
    curves: dict[str, Curve] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    trivial: float | None = None
    has_report: bool = False
    started: float | None = None
    ended: float | None = None
    worker: int | None = None
    num_params: int | None = None
    scored_on: int | None = None

    @property
    def counts(self) -> bool:
        """Whether its objective takes part in the comparison."""
        return self.value is not None and self.status in COUNTED


@dataclass
class Collected:
    """The content of a sweep's folder.

    Attributes:
        folder: the sweep's folder.
        origin: the command and the sweep's own record.
        objective: name of the compared metric.
        maximize: whether higher is better.
        keys: the keys in which the jobs differ.
        rows: the jobs, in order.
        set_aside: number of attempts that were interrupted and started again.
        recipe, ablation: content of these sweepers' files; else ``None``.
        ended_with: the recipe's record of its best configuration; else ``None``.
        name, notes: the root keys ``name`` and ``notes`` if all jobs have the same; else empty.
        tags: those that all jobs have.
    """

    folder: Path
    origin: Origin
    objective: str
    maximize: bool
    keys: list[str]
    rows: list[Row]
    set_aside: int
    recipe: list[dict[str, Any]] | None
    ablation: dict[str, Any] | None
    ended_with: dict[str, Any] | None
    name: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()

    @property
    def sign(self) -> float:
        """1 if higher is better, else -1."""
        return 1.0 if self.maximize else -1.0


def collect(folder: Path) -> Collected:
    """Read a sweep.

    Raises:
        ValueError: there is no such folder, it has no job, or it holds several sweeps.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: there is no such folder. Give that of a run, as outputs/DATE/TIME, or of a sweep, as "
            "multirun/DATE/TIME."
        )
    if found := sweeps_in(folder):
        raise ValueError(
            f"{folder} holds {len(found)} sweep{'s' if len(found) > 1 else ''}, and no jobs directly. Type the "
            f"folder of one; the newest is python -m mltricks.report {shlex.quote(str(found[-1]))}"
        )
    paths = job_folders(folder)
    if not paths:
        raise ValueError(f"{folder} holds no job of a sweep. Give the folder that has them, as multirun/DATE/TIME.")
    origin = read_origin(folder)
    summaries = [read_summary(path / "summary.json") for path in paths]
    name, maximize = objective(origin, summaries)
    given = [read_overrides(path, summary) for path, summary in zip(paths, summaries, strict=True)]
    rows = [
        make_row(folder, path, summary, overrides, name.rpartition("/")[2])
        for path, summary, overrides in zip(paths, summaries, given, strict=True)
    ]
    keys = give_values(rows, paths, origin.swept)
    recipe, ablation = read_json(folder / "recipe.json"), read_json(folder / "ablation.json")
    kept = (set_aside(folder), gates(recipe), ablation or None, best_of(recipe))
    return Collected(folder, origin, name, maximize, keys, rows, *kept, **called([s for s in summaries if s]))


def called(summaries: list[Summary]) -> dict[str, Any]:
    """Name, notes and tags that all jobs share."""
    shared = {key: {getattr(summary, key) or "" for summary in summaries} for key in ("name", "notes")}
    found: dict[str, Any] = {key: values.pop() for key, values in shared.items() if len(values) == 1}
    first = summaries[0].tags if summaries else []
    return found | {"tags": tuple(tag for tag in first if all(tag in summary.tags for summary in summaries))}


def make_row(sweep: Path, path: Path, summary: Summary | None, overrides: list[str], score: str) -> Row:
    """A job from its folder."""
    found = summary or Summary("unfinished")
    return Row(
        name=path.relative_to(sweep).as_posix(),
        status=found.status,
        value=finite(found.objective.get("value")),
        values={},
        overrides=overrides,
        seconds=finite(found.seconds) or 0.0,
        epochs=found.epochs,
        error=found.error or "",
        curves=read_curves(path / "metrics.jsonl", score),
        metrics={split: numbers(getattr(found, split)) for split in SPLITS},
        trivial=finite(found.trivial.get("val", {}).get(score)),
        has_report=(path / "report.html").is_file(),
        started=finite(found.started),
        ended=finite(found.ended),
        worker=found.worker,
        num_params=found.num_params,
        scored_on=found.scored_on,
    )


def numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics that are finite numbers."""
    return {name: value for name, v in metrics.items() if (value := finite(v)) is not None}


def give_values(rows: list[Row], paths: list[Path], known: list[str]) -> list[str]:
    """Find the keys in which the jobs differ, the known ones first, and store each job's values."""
    given = [pairs(row.overrides) for row in rows]
    keys = list(dict.fromkeys([*(k for k in known if any(k in g for g in given)), *differing(given)]))
    for row, path, values in zip(rows, paths, given, strict=True):
        missing = [key for key in keys if key not in values]
        config = read_yaml(path / "config.yaml") if missing else None
        row.values = {key: shown(key, values[key]) if key in values else look_up(config, key) for key in keys}
    return [key for key in keys if key in known or len({row.values[key] for row in rows}) > 1]


def objective(origin: Origin, summaries: list[Summary | None]) -> tuple[str, bool]:
    """Name of the objective, and whether higher is better; the sweep's record takes precedence over its jobs'."""
    said = [s.objective for s in summaries if s and s.objective.get("name")]
    name = origin.objective or (str(said[0]["name"]) if said else "objective")
    direction = origin.direction or next((str(o["direction"]) for o in said if o.get("direction")), "")
    if not direction:
        direction = "minimize" if name.endswith(("loss", "error", "perplexity")) else "maximize"
    return name, direction.startswith("max")


def read_overrides(path: Path, summary: Summary | None) -> list[str]:
    """The overrides of a job, from Hydra's record or else from its summary."""
    found = read_yaml(path / ".hydra" / "overrides.yaml")
    overrides = found if isinstance(found, list) else summary.overrides if summary else []
    return [str(o) for o in overrides if not str(o).lstrip("+~").startswith(("hydra.", "hydra/"))]


def gates(found: Any) -> list[dict[str, Any]] | None:
    """The gates of a recipe as a list; the file is a list or contains one."""
    if isinstance(found, dict):
        found = next((v for v in (found.get("gates"), found.get("steps")) if isinstance(v, list)), None)
    return [gate for gate in found if isinstance(gate, dict)] or None if isinstance(found, list) else None


def best_of(found: Any) -> dict[str, Any] | None:
    """A recipe's record of its best configuration."""
    best = found.get("best") if isinstance(found, dict) else None
    return best if isinstance(best, dict) and best.get("command") else None


def finite(value: Any) -> float | None:
    """The value as a finite number, or ``None``; of several values, the first."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
