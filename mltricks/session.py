"""A run with all that stands beside it: what has been measured, who watches, where it is written, how it ended.

A run that trains alone and one that trains in a stack with others go through the same functions here.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mltricks import checkpoint
from mltricks.build import Run, build
from mltricks.checkpoint import LAST, PREVIOUS
from mltricks.data.splits import DataSplits
from mltricks.evaluate import steered_by
from mltricks.ledger import Diverged, Ledger
from mltricks.memory import is_out_of_memory
from mltricks.observers.base import Moment, Observer
from mltricks.observers.create import InSweep, create_observers
from mltricks.process.atomic import remove_partial
from mltricks.process.device import allows_tf32
from mltricks.process.interrupt import stopped_by
from mltricks.resume import LENGTH, check_same_steps, differences, is_free, saved_config
from mltricks.state import State, reseed_step
from mltricks.summary import Summary, git_state
from mltricks.trivial import constant

BEST = Path("checkpoints/best.safetensors")
UNUSED = {"_target_": "mltricks.inits.default.Default"}
"""The initialisation of a run that goes on: its weights are in the checkpoint, so nothing else is read for them."""
AFTER = 1
"""Folded into a step's seed for what happens after it: validation, and then the test."""


@dataclass
class Session:
    """A run and what stands beside it.

    Attributes:
        run: what is trained.
        ledger: what has been measured.
        observers: who watches.
        folder: where the output goes.
        summary: takes the outcome.
    """

    run: Run
    ledger: Ledger
    observers: list[Observer]
    folder: Path
    summary: Summary

    @property
    def step(self) -> int:
        """Updates made."""
        return int(self.run.state["step"])

    def start(self) -> bool:
        """Let the observers begin, and the clock; whether one had asked to stop before a restart."""
        for observer in self.observers:
            observer.start(self.run, self.folder, self.step)
        self.ledger.begin()
        return any([observer.stopped() for observer in self.observers])

    def reseed(self, step: int, purpose: int) -> None:
        """Set the random state for what follows an update: whatever was done before, a restart does the same."""
        reseed_step(self.run.cfg["seed"], step, purpose)

    def record_due(self, step: int) -> bool:
        return self.ledger.record_due(step, self.run.cfg["log_every"], self.run.total_steps)

    def validation_due(self, step: int) -> bool:
        return self.ledger.validation_due(step, self.run.cfg["eval_every_epochs"], self.run.total_steps)

    def save_due(self, step: int) -> bool:
        """Whether ``checkpoint_every_steps`` asks for a checkpoint."""
        every = self.run.cfg["checkpoint_every_steps"]
        return bool(every) and step % every == 0

    def record_training(self, step: int) -> None:
        """Tell the metrics since the last record; raises ``Diverged`` where one is not finite."""
        self.ledger.record_training(step, self.run.cfg["batch_size"], self.observers)

    def record_validation(self, step: int, metrics: dict[str, float], keep: Callable[[State], None]) -> bool:
        """Tell the metrics of a validation; whether an observer asks to stop.

        Args:
            step: updates made.
            metrics: of the validation split.
            keep: keeps the weights of a state that is the best so far.

        Raises:
            Diverged: a metric that steers is not finite.
        """
        record, is_best = self.ledger.record_validation(step, metrics, self.observers)
        if is_best:
            keep(self.run.state)
        moment = Moment(self.run.state, record, is_best)
        return any([observer.validated(moment) for observer in self.observers])

    def hopeless(self) -> bool:
        """Whether an observer gives the run up; asked when those of all runs that train together have been told."""
        return any([observer.hopeless() for observer in self.observers])

    def save(self) -> None:
        """Write the checkpoint; raises ``Diverged`` instead where the run has."""
        self.ledger.check_finite(self.step, self.run.state["params"])
        state = {**self.run.state, "host": self.ledger.remember(self.observers)}
        checkpoint.save(self.folder / LAST, state, self.run.cfg, self.summary.overrides)

    def record_test(self, metrics: dict[str, float], status: str) -> None:
        """Note the metrics of the test split: the run is over."""
        step, self.summary.test, self.summary.status = self.step, metrics, status
        run = self.run
        try:
            self.summary.trivial = constant(run.data, run.objective, run.cfg["eval_batch_size"], "val", "test")
        except Exception as error:  # a user's own objective may take other outputs; that fails no run that is over
            print(f"the trivial predictor could not be measured ({type(error).__name__}: {error})", file=sys.stderr)
        self.ledger.tell({"step": step, "epoch": self.ledger.epoch(step), "split": "test", **metrics}, self.observers)

    def fail(self, error: BaseException) -> None:
        """Note how a run ended that did not end well, and write what can be written."""
        note_failure(self.summary, error)
        with suppress(Exception):  # a full disk fails here again; the first error is the one to tell
            self.conclude()

    def conclude(self) -> None:
        """Let the observers finish, then write the summary: where it says that a run is over, nothing is missing."""
        self.ledger.describe(self.summary, self.step)
        try:
            for observer in self.observers:
                observer.finish(self.summary)
        finally:
            self.summary.write(self.folder / "summary.json")


def new_summary(folder: Path, overrides: Sequence[str]) -> Summary:
    """What is said of a run before it has begun: that it failed."""
    return Summary("failed", overrides=list(overrides), versions=checkpoint.versions(), folder=str(folder))


def note_failure(summary: Summary, error: BaseException) -> None:
    """Write into a summary how a run ended that did not end well."""
    summary.status = "diverged" if isinstance(error, Diverged) else "failed"
    summary.error, summary.out_of_memory = str(error), is_out_of_memory(error)
    if stopped_by() is not None:
        summary.status, summary.error, summary.signal = "interrupted", None, stopped_by()


def prepare(
    cfg: dict[str, Any],
    folder: Path,
    resume: bool,
    summary: Summary,
    in_sweep: InSweep | None = None,
    data: DataSplits | None = None,
) -> Session:
    """Build the run and what stands beside it; where it goes on, take back what was saved.

    Args:
        cfg: the resolved configuration.
        folder: output folder.
        resume: go on where the checkpoint in ``folder`` stopped.
        summary: takes the outcome.
        in_sweep: how it is observed as a trial of a sweep; ``None`` where it is none.
        data: of another run with the same ``cfg["data"]``; ``None`` to load.
    """
    saved = load_saved(cfg, folder) if resume else None
    summary.git = git_state()
    run = build(cfg if saved is None else {**cfg, "init": UNUSED}, data)
    run.cfg, summary.notes = cfg, run.notes
    ledger = Ledger(run.hypers, run.source.steps_per_epoch, steered_by(run))
    observers = create_observers(cfg, folder, in_sweep)
    if not resume:
        remove_stale(folder)
    if saved is not None:
        check_same_steps(run, saved["config"], int(saved["state"]["step"]))
        run.state = checkpoint.restore(saved["state"], run.state, folder / LAST)
        ledger.recall(run.state.pop("host"), observers)
        known = saved["overrides"]
        summary.overrides = known + [o for o in summary.overrides if o not in known and not o.startswith("resume=")]
    if run.device.type == "cpu":
        summary.threads = torch.get_num_threads()
    if run.device.type == "cuda":
        summary.tf32 = allows_tf32(cfg["deterministic"], cfg["precision"]["tf32"])
    summary.device = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else str(run.device)
    return Session(run, ledger, observers, folder, summary)


def remove_stale(folder: Path) -> None:
    """Remove what an earlier run has left in a folder: it must not pass for this one's."""
    shutil.rmtree(folder / "plots", ignore_errors=True)
    for stale in ("summary.json", "report.html", LAST, LAST.with_name(PREVIOUS), BEST):
        (folder / stale).unlink(missing_ok=True)


def check_links(folder: Path) -> None:
    """Refuse a folder with links that lead out of it: whoever made them would choose what the run overwrites.

    Raises:
        ValueError: names the link.
    """
    home = folder.resolve()
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in [*folders, *files]):
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise ValueError(
                    f"{path} is a link to {path.resolve()}, outside the run's folder, and going on would write there. "
                    "Put what it points to in its place."
                )


def load_saved(cfg: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The checkpoint of the run in a folder, or ``None`` where it was stopped before its first: it then begins anew.

    Raises:
        ValueError: the configuration would not go on with that run but make another, or a link leads out of the folder.
    """
    check_links(folder)
    for path, (mine, theirs) in differences(cfg, saved_config(folder)).items():
        if not is_free(path) and path not in LENGTH:
            raise ValueError(f"{path}={mine} cannot go on with the run in {folder}, where it was {theirs}.")
    for place in (folder, (folder / LAST).parent):
        remove_partial(place)
    return checkpoint.load(folder / LAST) if (folder / LAST).exists() else None
