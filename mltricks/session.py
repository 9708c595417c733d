"""A session: a run with its ledger, observers, output folder and summary.

Single runs and the members of a stack use the same functions.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mltricks import checkpoint
from mltricks.build import Run, build
from mltricks.checkpoint import LAST, PREVIOUS
from mltricks.config.create import is_given
from mltricks.data.fingerprint import check_same
from mltricks.data.splits import DataSplits
from mltricks.evaluate import steered_by
from mltricks.features.scores import check_features
from mltricks.ledger import Diverged, Ledger
from mltricks.lengthen import LENGTH, check_larger, check_same_steps
from mltricks.memory import is_out_of_memory
from mltricks.observers.base import Moment, Observer
from mltricks.observers.create import InSweep, create_observers
from mltricks.observers.layers import FILE as LAYERS
from mltricks.process.atomic import remove_partial
from mltricks.process.device import allows_tf32
from mltricks.process.interrupt import stopped_by
from mltricks.resume import differences, is_free, saved_config
from mltricks.state import State, reseed_step
from mltricks.summary import Summary, git_state
from mltricks.trivial import constant

BEST = Path("checkpoints/best.safetensors")
UNUSED = {"_target_": "mltricks.inits.default.Default"}
"""The initialisation of a resumed run: its weights are in the checkpoint, so no initialiser needs to run."""
AFTER = 1
"""Folded into a step's seed for validation and test, which follow the step."""


@dataclass
class Session:
    """A run with its ledger, observers and output folder.

    Attributes:
        run: the run.
        ledger: its measurements.
        observers: called with every record.
        folder: the output folder.
        summary: the result, filled in as the run proceeds.
    """

    run: Run
    ledger: Ledger
    observers: list[Observer]
    folder: Path
    summary: Summary

    @property
    def step(self) -> int:
        """The number of updates so far."""
        return int(self.run.state["step"])

    def start(self) -> bool:
        """Start the observers and the clock; return whether an observer had asked to stop before a restart."""
        for observer in self.observers:
            observer.start(self.run, self.folder, self.step)
        self.ledger.begin()
        return any([observer.stopped() for observer in self.observers])

    def reseed(self, step: int, purpose: int) -> None:
        """Seed the generators for validation or test, so that a restarted run draws the same numbers."""
        reseed_step(self.run.cfg["seed"], step, purpose)

    def record_due(self, step: int) -> bool:
        return self.ledger.record_due(step, self.run.cfg["log_every"], self.run.total_steps)

    def validation_due(self, step: int) -> bool:
        return self.ledger.validation_due(step, self.run.cfg["eval_every_epochs"], self.run.total_steps)

    def save_due(self, step: int) -> bool:
        """Whether ``checkpoint_every_steps`` requires a checkpoint now."""
        every = self.run.cfg["checkpoint_every_steps"]
        return bool(every) and step % every == 0

    def record_training(self, step: int) -> None:
        """Report the metrics since the last record. Raises ``Diverged`` if one is not finite."""
        self.ledger.record_training(step, self.run.cfg["batch_size"], self.observers)

    def record_validation(
        self, step: int, metrics: dict[str, float], state: State, keep: Callable[[State], None]
    ) -> bool:
        """Report validation metrics; return whether an observer asks to stop.

        Args:
            step: number of updates so far.
            metrics: of the validation split.
            state: the one that was measured.
            keep: stores the weights if they are the best so far.

        Raises:
            Diverged: the loss or the score is not finite.
        """
        record, is_best = self.ledger.record_validation(step, metrics, self.observers)
        if is_best:
            keep(state)
        moment = Moment(state, record, is_best)
        return any([observer.validated(moment) for observer in self.observers])

    def hopeless(self) -> bool:
        """Whether an observer prunes the run; call it after all runs of a stack have reported their metrics."""
        return any([observer.hopeless() for observer in self.observers])

    def save(self) -> None:
        """Write the checkpoint. Raises ``Diverged`` instead if the run has diverged."""
        self.ledger.check_finite(self.step, self.run.state["params"])
        state = {**self.run.state, "host": {**self.ledger.remember(self.observers), "data": self.run.data.fingerprint}}
        checkpoint.save(self.folder / LAST, state, self.run.cfg, self.summary.overrides)

    def record_test(self, metrics: dict[str, float], status: str) -> None:
        """Store the metrics of the test split, and the final status."""
        step, self.summary.test, self.summary.status = self.step, metrics, status
        run = self.run
        try:
            self.summary.trivial = constant(run.data, run.objective, run.cfg["eval_batch_size"], "val", "test")
        except Exception as error:  # a user's objective may need other outputs; that must not fail a finished run
            print(f"the trivial predictor could not be measured ({type(error).__name__}: {error})", file=sys.stderr)
        self.ledger.tell({"step": step, "epoch": self.ledger.epoch(step), "split": "test", **metrics}, self.observers)

    def fail(self, error: BaseException) -> None:
        """Record the error of a failed run, and write as much as possible."""
        note_failure(self.summary, error)
        with suppress(Exception):  # a full disk fails here again; report the first error
            self.conclude()

    def conclude(self) -> None:
        """Close the observers, then write the summary: a summary with a final status implies complete output."""
        self.ledger.describe(self.summary, self.step)
        self.summary.samples = {name: len(getattr(self.run.data, name)) for name in ("train", "val", "test")}
        self.summary.ended = round(time.time(), 3)
        try:
            for observer in self.observers:
                observer.finish(self.summary)
        finally:
            self.summary.write(self.folder / "summary.json")


def new_summary(folder: Path, overrides: Sequence[str], cfg: dict[str, Any]) -> Summary:
    """The initial summary, with status ``failed``; success overwrites it."""
    summary = Summary("failed", overrides=list(overrides), versions=checkpoint.versions(), folder=str(folder))
    summary.name, summary.notes = (None if cfg.get(key) is None else str(cfg[key]) for key in ("name", "notes"))
    summary.started, summary.worker = round(time.time(), 3), os.getpid()
    summary.tags = [str(tag) for tag in cfg.get("tags") or ()]
    return summary


def note_failure(summary: Summary, error: BaseException) -> None:
    """Write the status and message of an error into a summary."""
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
    model: nn.Module | None = None,
) -> Session:
    """Build a run and its session, and restore the checkpoint if it is resumed.

    Args:
        cfg: the resolved configuration.
        folder: output folder.
        resume: whether to continue from the checkpoint in ``folder``.
        summary: receives the result.
        in_sweep: the settings of a trial in a sweep; ``None`` outside sweeps.
        data: of another run with the same ``cfg["data"]``, or given by a program; ``None`` loads it.
        model: given by a program; ``None`` constructs what the configuration names.
    """
    saved = load_saved(cfg, folder) if resume else None
    if saved is not None:
        known = saved["overrides"]
        summary.overrides = known + [o for o in summary.overrides if o not in known and not o.startswith("resume=")]
    summary.git = git_state()
    run = build(cfg if saved is None else {**cfg, "init": UNUSED}, data, model)
    run.cfg, summary.messages, summary.num_params = cfg, run.messages, run.num_params
    score = steered_by(run)
    check_features(run)
    summary.scored_on = len(run.data.val) if score.score == "accuracy" and run.objective.one_target else None
    ledger = Ledger(run.hypers, run.source.steps_per_epoch, score)
    observers = create_observers(cfg, folder, in_sweep, summary.overrides)
    if not resume:
        check_links(folder)
        remove_stale(folder, cfg["overwrite"])
    if saved is not None:
        check_same_steps(run, saved["config"], int(saved["state"]["step"]))
        run.state = checkpoint.restore(saved["state"], run.state, folder / LAST)
        host = run.state.pop("host")
        check_same(run.data.fingerprint, host["data"], f"resume={folder}")
        ledger.recall(host, observers)
    note_device(summary, run)
    return Session(run, ledger, observers, folder, summary)


def note_device(summary: Summary, run: Run) -> None:
    """Record the device, and the setting of its arithmetic that results depend on."""
    if run.device.type == "cpu":
        summary.threads = torch.get_num_threads()
    if run.device.type == "cuda":
        summary.tf32 = allows_tf32(run.cfg["deterministic"], run.cfg["precision"]["tf32"])
    summary.device = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else str(run.device)


def remove_stale(folder: Path, overwrite: bool) -> None:
    """Remove the output of an earlier run from a folder, so that it is not mistaken for this run's.

    With ``overwrite``, also what was computed from that run.
    """
    shutil.rmtree(folder / "plots", ignore_errors=True)
    derived = ("evaluation.json", "predictions.csv", "predictions.jsonl") if overwrite else ()
    for stale in ("summary.json", "report.html", LAYERS, *derived, LAST, LAST.with_name(PREVIOUS), BEST):
        (folder / stale).unlink(missing_ok=True)


def check_links(folder: Path) -> None:
    """Refuse a folder with links out of it: their author could make the run overwrite other files.

    Raises:
        ValueError: names the link.
    """
    home = folder.resolve()
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in [*folders, *files]):
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise ValueError(
                    f"{path} is a link to {path.resolve()}, outside the run's folder, and the run would write there. "
                    "Replace the link with its target."
                )


def load_saved(cfg: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Load the checkpoint of the run in a folder; ``None`` if it stopped before the first one and must start again.

    Raises:
        ValueError: the configuration does not match the run, or a link leads out of the folder.
    """
    check_links(folder)
    saved = saved_config(folder)
    for part in ("model", "data"):
        if is_given(saved.get(part)) and not is_given(cfg[part]):
            raise ValueError(
                f"the {part} of the run in {folder} is an object that a Python program gave. Give it again: "
                f"mltricks.train(cfg, folder, resume=True, {part}={part})."
            )
    for path, (mine, theirs) in differences(cfg, saved).items():
        if path in LENGTH:
            check_larger(f"{path}={mine}", mine, theirs, folder)
        elif not is_free(path):
            raise ValueError(
                f"{path}={mine}: the run in {folder} began with {theirs}, and a resumed run keeps it. Leave {path} "
                "out, or start a new run."
            )
    for place in (folder, (folder / LAST).parent):
        remove_partial(place)
    return checkpoint.load(folder / LAST) if (folder / LAST).exists() else None
