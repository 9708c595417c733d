"""Weights & Biases: configuration, curves, figures, weights and result. Its failures do not stop or slow a run.

This file collects what is sent; a process of its own imports wandb and sends it (``wandb_sender/``).

Source: https://docs.wandb.ai; settings as of wandb 0.31.
Deviation: every run is separate (``reinit="create_new"``), so that the runs of a sweep in one process are not merged,
and trials that train at the same time do not end each other.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mltricks.artifacts import has_key
from mltricks.batch import Batch
from mltricks.config.values import Positive, Size, check_fields
from mltricks.observers.base import Moment, Observer, Record
from mltricks.observers.curves import NORMS, NewLines, curves, layer_curves
from mltricks.observers.facts import dated, facts, inputs, run_name, sweep_folder, swept
from mltricks.observers.formats import shown_folder
from mltricks.observers.layers import FILE as LAYERS
from mltricks.observers.wandb_sender.link import Link, link
from mltricks.observers.wandb_sender.source import source_files
from mltricks.observers.worst import Examples

if TYPE_CHECKING:
    from torch import Tensor

    from mltricks.build import Run
    from mltricks.summary import Summary

RESULT = ("status", "steps", "epochs", "seconds", "objective", "device", "error")
DONE = ("completed", "stopped_early", "pruned")
SCORED = ("completed", "stopped_early")


@dataclass
class Wandb(Observer):
    """Logs a run. Its name, tags and notes are the run's own.

    Args:
        project: project that the run is put into.
        entity: user or team; ``None`` for the account's default.
        group: group of the run; ``None`` for the name of the sweep's folder, in a sweep.
        mode: ``online``, ``offline`` or ``disabled``; ``auto`` is online if there is an API key.
        log_model: whether to upload the best weights as an artifact; ``auto``: outside sweeps.
        model_name: name of that artifact; ``None``: ``model-`` and the id of the run.
        log_figures: whether to send ``plots/``.
        log_images: rows of the table of the worst predictions, with pictures; 0: no table.
        gradients: whether to send the norms of ``layers.jsonl``.
        system_metrics_s: seconds between measurements of the machine, >= 0.1; ``None``: none.
        git: whether to send commit, remote and a patch of uncommitted changes.
        log_code: whether to upload the files of the packages in ``allow_modules``.
        init_timeout_s: seconds to wait for the server at the start, > 0.
        finish_timeout_s: seconds to wait for the upload at the end, > 0.

    Raises:
        ValueError: the package is not installed, or a setting is wrong.
    """

    project: str
    entity: str | None
    group: str | None
    mode: Literal["auto", "online", "offline", "disabled"]
    log_model: Literal["auto", True, False]
    model_name: str | None
    log_figures: bool
    log_images: Size
    gradients: bool
    system_metrics_s: Positive | None
    git: bool
    log_code: bool
    init_timeout_s: Positive
    finish_timeout_s: Positive

    def __post_init__(self) -> None:
        check_fields(self, "tracker.")
        check_name("project", self.project, r"[^/\\#?%:]{1,128}", "1 to 128 characters other than / \\ # ? % :")
        check_name("model_name", self.model_name, r"[\w.-]{1,128}", "1 to 128 letters, digits, and - _ .")
        if find_spec("wandb") is None:
            raise ValueError("tracker=wandb needs the package wandb. Type: pip install wandb")
        self.link: Link | None = None

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.run, self.folder, self.key = run, folder, str(folder.resolve())
        self.sweep = sweep_folder(folder)
        self.layers = NewLines(folder / LAYERS, resumed_at)
        self.examples = Examples(run, self.log_images)
        mode, remark = choose_mode(self.mode)
        if remark:
            self.say_unsent(remark)
        self.attempt("begin", **self.beginning(mode, resumed_at))

    def beginning(self, mode: str, resumed_at: int) -> dict[str, Any]:
        """The arguments of ``sender.begin``."""
        cfg, before = self.run.cfg, last_id(self.folder) if resumed_at else None
        known, started_from = facts(self.run), inputs(self.run.cfg)
        given = swept(self.folder)
        return {
            "modes": [mode, "offline"] if mode == "online" else [mode],
            "settings": self.settings(),
            "defined": definitions(),
            "inputs": started_from,
            "source": source_files(cfg["allow_modules"]) if self.log_code else [],
            "project": self.project,
            "entity": self.entity,
            "group": self.group or (dated(self.sweep) if self.sweep else None),
            "job_type": "trial" if self.sweep else "train",
            "name": run_name(cfg.get("name"), self.folder, self.sweep),
            "tags": [str(tag) for tag in cfg.get("tags") or ()] or None,
            "notes": None if cfg.get("notes") is None else str(cfg["notes"]),
            "config": {**cfg, "about": {**known, "started_from": started_from}, **({"sweep": given} if given else {})},
            "id": before,
            "resume": "allow" if before else None,
        }

    def settings(self) -> dict[str, Any]:
        """Settings of wandb, as ``wandb.Settings`` takes them."""
        interval = {"x_stats_sampling_interval": self.system_metrics_s} if self.system_metrics_s else {}
        return {
            "init_timeout": self.init_timeout_s,
            "login_timeout": self.init_timeout_s,
            "finish_timeout": self.finish_timeout_s,
            "console": "off",
            "silent": True,
            "x_disable_stats": self.system_metrics_s is None,
            **interval,
            "disable_git": not self.git,
            "save_code": False,
            "program": sys.argv[0],
            "reinit": "create_new",
        }

    def record(self, record: Record) -> None:
        for row in self.layers.read() if self.gradients else ():
            self.log(row, layer_curves(row))
        self.log(record, curves(record))

    def log(self, at: Record, values: dict[str, float]) -> None:
        step, epoch = at["step"], at["epoch"]
        self.attempt("log", row={**values, "step": step, "epoch": epoch}, step=step)

    def validated(self, moment: Moment) -> bool:
        if moment.is_best:
            best = {**curves(moment.record), "best/epoch": moment.record["epoch"], "best/step": moment.record["step"]}
            self.attempt("summary", values=best)
        return False

    def tested(self, batch: Batch, outputs: Tensor) -> None:
        self.examples.add(batch, outputs)

    def finish(self, summary: Summary) -> None:
        said = {k: v for k, v in asdict(summary).items() if k in RESULT}
        metrics = {f"{split}/{n}": v for split in ("train", "val", "test") for n, v in getattr(summary, split).items()}
        weights = self.folder / "checkpoints" / "best.safetensors"
        wanted = self.log_model is True or (self.log_model == "auto" and self.sweep is None)
        scored = summary.status in SCORED
        self.attempt(
            "finish",
            step=summary.steps,
            values={**said, **metrics},
            exit_code=0 if summary.status in DONE else 1,
            plots=str(self.folder / "plots") if self.log_figures else None,
            table=self.examples.table() if scored else None,
            model=self.model(summary, weights) if wanted and scored and weights.is_file() else None,
        )
        if self.link is not None and self.sweep is None and not self.link.wait(self.key, self.finish_timeout_s):
            say(f"not all was sent within {self.finish_timeout_s:g} s (tracker.finish_timeout_s); {self.unsent()}")
        self.hear()
        self.link = None

    def model(self, summary: Summary, weights: Path) -> dict[str, Any]:
        """The arguments of ``media.log_model``."""
        metadata = {
            "score": summary.objective,
            "epoch": summary.epoch_of.get("val"),
            "val": summary.val,
            "test": summary.test,
            "seed": self.run.cfg["seed"],
            "about": facts(self.run),
            "versions": summary.versions,
            "git": summary.git,
        }
        return {"path": str(weights), "name": self.model_name, "metadata": metadata}

    def attempt(self, what: str, **content: Any) -> None:
        """Hand something over unless this run's tracker has stopped; a failure stops the tracker and not the run."""
        if what == "begin":
            try:
                self.link = link(self.finish_timeout_s)
            except OSError as error:
                say(f"stopped ({error}); training goes on")
        self.hear()
        if self.link is not None:
            self.link.put(self.key, what, **content)

    def hear(self) -> None:
        """Print what the sender reported about this run."""
        for kind, text in self.link.news(self.key) if self.link is not None else ():
            if kind == "offline":
                self.say_unsent(text)
            elif kind == "remark":
                say(text)
            else:
                say(f"stopped ({text}); training goes on")
                self.link = None

    def unsent(self) -> str:
        where = f"{shown_folder(self.sweep)}/*" if self.sweep else shown_folder(self.folder)
        return f"wandb sync {where}/wandb/offline-run-* sends it"

    def say_unsent(self, why: str) -> None:
        say_once(f"{why}; recorded offline, {self.unsent()}")


def check_name(setting: str, name: str | None, pattern: str, allowed: str) -> None:
    """Refuse a name that W&B would refuse, which it does at the end of a run for artifacts.

    Raises:
        ValueError: says what is allowed.
    """
    if name is not None and not re.fullmatch(pattern, name):
        raise ValueError(f"tracker.{setting}={name} is no name for W&B. Allowed: {allowed}.")


def definitions() -> list[dict[str, Any]]:
    """The arguments of ``define_metric``: curves over updates, and summaries of the best validation.

    ``val/*`` has no summary of W&B's own: the summary is that of the best weights, which ``validated`` sends.
    """
    over = {"step_metric": "step"}
    return [
        {"name": "step", "hidden": True},
        {"name": "epoch", "hidden": True},
        {"name": "train/*", **over},
        {"name": "val/*", **over, "summary": "none"},
        {"name": "test/*", **over},
        *({"name": f"{name}/*", **over, "summary": "none"} for name in NORMS.values()),
    ]


def choose_mode(wanted: str) -> tuple[Any, str]:
    """The mode for wandb, and a message about it."""
    if wanted == "auto" and os.environ.get("WANDB_MODE"):
        wanted = os.environ["WANDB_MODE"]
    if wanted in ("auto", "online"):
        return ("online", "") if has_key() else ("offline", "no API key found (WANDB_API_KEY, or wandb login)")
    return wanted, ""


def last_id(folder: Path) -> str | None:
    """The id of the run that was logged from this folder before."""
    found = [path.name.rpartition("run-")[2] for path in (folder / "wandb").glob("*run-*-*") if path.is_dir()]
    return max(found).rpartition("-")[2] if found else None  # names begin with date and time


@functools.cache
def say_once(text: str) -> None:
    """Print a message once for all trials of a sweep."""
    say(text)


def say(text: str) -> None:
    print(f"tracker=wandb: {text}", file=sys.stderr)
