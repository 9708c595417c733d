"""The training loop, for a single run or a stack of runs: steps, records, validations and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from mltricks.build import Run
from mltricks.checkpoint import LAST
from mltricks.config.compose import plain
from mltricks.config.overrides import typed
from mltricks.config.stages import stage_names
from mltricks.evaluate import evaluate
from mltricks.features.scores import scores_of_state, scores_of_weights
from mltricks.given import Given, check_job, with_objects
from mltricks.memory import is_out_of_memory, with_smaller_micro_batches
from mltricks.observers.base import Observer
from mltricks.observers.create import InSweep, new_folder
from mltricks.predicting import to_predict
from mltricks.process.atomic import NotWritten, alone_in
from mltricks.process.device import choose_device
from mltricks.process.interrupt import Interrupt
from mltricks.result import Result, result_of
from mltricks.resume import check_unused, finished, no_run
from mltricks.saving import predict_with, predicting_weights, save_weights
from mltricks.session import AFTER, BEST, Session, new_summary, note_failure, prepare
from mltricks.stages.run import run_stages
from mltricks.state import reseed_step
from mltricks.summary import Summary
from mltricks.weights import load_weights


def train(
    cfg: Any,
    folder: str | Path | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    in_sweep: InSweep | None = None,
    model: nn.Module | None = None,
    data: Any = None,
) -> Result:
    """Train a model as configured, or objects that a program gives.

    A run of given objects cannot be repeated from its folder alone: to resume it, give them again.

    Args:
        cfg: the result of ``mltricks.compose``, or the same as nested dicts.
        folder: output folder; by default a new one under ``outputs/``.
        resume: whether to continue from the checkpoint in ``folder``.
        overrides: the command's overrides; only recorded.
        in_sweep: the settings of a trial in a sweep; ``None`` outside sweeps.
        model: a module to train instead of the configured one. It stays as it is: a copy starts from its weights and
            is trained, without the parameters whose ``requires_grad`` is false; ``result.module()`` returns it.
        data: (train, val, test) instead of the configured data, each a pair (x, y) of tensors or arrays, or a dataset;
            or ``DataSplits``. ``mltricks.data.given`` lists shapes and dtypes. The objective ``classify`` becomes
            ``regress`` if ``y`` are floats.

    Returns:
        The content of ``summary.json``, with methods for what is in the folder: ``history``, ``plot()``, ``report``,
        ``load()``, ``module()``.

    Raises:
        ValueError: the configuration is refused, or a file is missing, damaged or cannot be written.
        Diverged: the loss became NaN or infinite.
    """
    cfg, named = plain(cfg), folder is not None
    check_job(cfg)
    if stage_names(cfg.get("stages")):
        if model is not None or data is not None:
            raise ValueError("a run of stages makes its own model and data. Train the stages one by one with yours.")
        where = new_folder() if folder is None else Path(folder)
        return result_of(run_stages(cfg, where, resume, overrides, in_sweep, train), None, cfg["allow_modules"])
    cfg, objects = with_objects(cfg, model, data)
    folder = Path(folder) if folder is not None else new_folder()
    if resume and not folder.is_dir():
        raise no_run(folder)
    if resume and (done := finished(folder, cfg)) is not None:
        return result_of(done, model, cfg["allow_modules"])
    if not resume and in_sweep is None and not cfg["overwrite"]:
        check_unused(folder)
    with alone_in(folder):
        summary = train_in(cfg, folder, resume, new_summary(folder, overrides, cfg), in_sweep, named, objects)
    return result_of(summary, model, cfg["allow_modules"])


def train_in(
    cfg: dict[str, Any],
    folder: Path,
    resume: bool,
    summary: Summary,
    in_sweep: InSweep | None,
    named: bool,
    objects: Given,
) -> Summary:
    """Train in a folder that no other process trains in; ``named``: the caller named it."""
    with Interrupt() as interrupt:
        try:
            with interrupt.at_once(), summary.timed("load"):
                data = objects.data and objects.data.to(choose_device(cfg["device"]))
                session = prepare(cfg, folder, resume, summary, in_sweep, data, objects.model)
                summary.messages += objects.messages
                if resume:
                    begin_again(folder)
        except BaseException as error:
            note_failure(summary, error)
            if named and not resume and not (folder / "summary.json").exists():  # a folder made for this run
                summary.write(folder / "summary.json")
            raise
        try:
            fit(session, interrupt)
        except BaseException as error:
            session.fail(error)
            if isinstance(error, NotWritten):
                way = ", and type the command again"
                if (folder / LAST).is_file():
                    way = f"; {typed('resume', folder)} continues from the last good checkpoint"
                raise ValueError(f"{error}. Free some space{way}.") from error
            raise
        session.conclude()
    return summary


def begin_again(folder: Path) -> None:
    """Let the summary of a finished run that is made longer say that it is not finished: a kill would leave it."""
    old = finished(folder)
    if old is not None:
        old.status, old.test = "interrupted", {}
        old.write(folder / "summary.json")


class Group(Protocol):
    """The runs that the loop trains: a single one, or the members of a stack, which are all at the same step."""

    @property
    def going(self) -> bool:
        """Whether any run still trains."""

    @property
    def lead(self) -> Session:
        """The session whose settings determine when to record, validate and save; all members share them."""

    def advance(self, step: int) -> int:
        """Make one or more updates after ``step``, but not past the next event; return the new number of updates."""

    def record(self, step: int) -> None:
        """Report training metrics."""

    def validate(self, step: int) -> None:
        """Measure on the validation split, keep the best weights, and end the runs that stop or are pruned here."""

    def save_due(self, step: int) -> bool:
        """Whether to write checkpoints now."""

    def save(self) -> None:
        """Write the checkpoints."""

    def complete(self) -> None:
        """Called after the last update."""


def loop(group: Group, step: int, interrupt: Interrupt) -> int | None:
    """Train from ``step`` until all runs end or a signal stops them; return the signal if it cut training short."""
    asked = None
    while group.going and not asked:
        lead = group.lead
        step = group.advance(step)
        if lead.record_due(step):
            group.record(step)
        if group.going and lead.validation_due(step):
            group.validate(step)
        asked = interrupt.signal  # read once: a later signal is handled after the next step
        if group.save_due(step) or asked:
            group.save()
        if step == lead.run.total_steps:
            group.complete()
    return asked if group.going else None


class Alone:
    """A group of a single run.

    Args:
        session: of the run.

    Attributes:
        ends: the final status, once known.
    """

    def __init__(self, session: Session):
        self.lead, self.ends = session, "stopped_early" if session.start() else None
        self.batches = session.run.batches(session.step)
        self.watching = [o.updated for o in session.observers if type(o).updated is not Observer.updated]
        if session.step >= session.run.total_steps:
            self.complete()

    @property
    def going(self) -> bool:
        return self.ends is None

    def advance(self, step: int) -> int:
        run = self.lead.run
        batch = next(self.batches)
        reseed_step(run.cfg["seed"], step)
        metrics = advance(run, batch, step)
        self.lead.ledger.add(metrics)
        for see in self.watching:
            see(metrics)
        for observer in self.lead.observers:
            observer.step(step + 1)
        return step + 1

    def record(self, step: int) -> None:
        self.lead.record_training(step)

    def validate(self, step: int) -> None:
        with self.lead.summary.timed("validate"):
            asked = validate(self.lead, step)
        if asked:
            self.ends = "stopped_early"
        elif step < self.lead.run.total_steps and self.lead.hopeless():
            self.ends = "pruned"

    def save_due(self, step: int) -> bool:
        return self.lead.validation_due(step) or self.lead.save_due(step)

    def save(self) -> None:
        self.lead.save()

    def complete(self) -> None:
        self.ends = self.ends or "completed"


def fit(session: Session, interrupt: Interrupt) -> None:
    """Train one run until it ends or is stopped, then test once. The summary receives the result."""
    alone = Alone(session)
    with session.summary.timed("train"):
        asked = loop(alone, session.step, interrupt)
    phases = session.summary.phases
    phases["train"] = round(phases["train"] - phases.get("validate", 0.0), 3)  # the loop includes the validations
    if alone.ends == "pruned":
        session.summary.status = alone.ends
    elif alone.ends is None:
        session.summary.status, session.summary.signal = "interrupted", asked
    else:
        # the last checkpoint is written, so a resume can repeat the test
        with interrupt.at_once(), session.summary.timed("test"):
            metrics = test(session)
        session.record_test(metrics, alone.ends)


def advance(run: Run, batch: Any, step: int) -> dict[str, torch.Tensor]:
    """Update ``run.state`` once; if memory runs out, retry with smaller micro-batches."""
    while True:
        try:
            run.state, metrics = run.step(run.state, batch, run.hypers.at(step))
            return metrics
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            with_smaller_micro_batches(run, error)


def validate(session: Session, step: int) -> bool:
    """Measure on the validation split and keep the best weights; return whether an observer asks to stop."""
    run = session.run
    session.ledger.check_finite(step, run.state["params"])
    state = to_predict(run, run.state)
    session.reseed(step, AFTER)
    metrics = evaluate(run.predict, run.objective, state, run.data.val, run.cfg["eval_batch_size"], (), run.metrics)
    metrics |= scores_of_state(run, state, run.data.val)
    return session.record_validation(
        step, metrics, state, lambda state: save_weights(session.folder / BEST, run, *predicting_weights(run, state))
    )


def test(session: Session) -> dict[str, float]:
    """The metrics of the best weights on the test split; observers receive the outputs."""
    run = session.run
    (weights, about), watch = load_weights(session.folder / BEST), [observer.tested for observer in session.observers]
    session.reseed(session.step, AFTER + 1)
    predict, batch_size = predict_with(run, weights, about["own"]), run.cfg["eval_batch_size"]
    metrics = evaluate(predict, run.objective, run.state, run.data.test, batch_size, watch, run.metrics)
    return metrics | scores_of_weights(run, weights, run.data.test)
