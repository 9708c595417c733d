"""The loop: batches through the step, and observers beside it, of one run or of a stack of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from mltricks.build import Run
from mltricks.config.compose import plain
from mltricks.evaluate import evaluate
from mltricks.memory import is_out_of_memory, with_smaller_micro_batches
from mltricks.observers.create import InSweep, new_folder
from mltricks.process.atomic import NotWritten
from mltricks.process.interrupt import Interrupt
from mltricks.resume import check_unused, finished
from mltricks.session import AFTER, BEST, Session, new_summary, note_failure, prepare
from mltricks.state import reseed_step
from mltricks.summary import Summary
from mltricks.weights import load_weights, predict_with, predicting_weights, save_weights


def train(
    cfg: Any,
    folder: str | Path | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    in_sweep: InSweep | None = None,
) -> Summary:
    """Train a model as configured.

    Args:
        cfg: what ``mltricks.compose`` returns, or the same as nested dicts.
        folder: output folder; by default a new one under ``outputs/``.
        resume: go on where the checkpoint in ``folder`` stopped.
        overrides: the command's overrides, for the record.
        in_sweep: how it is observed as a trial of a sweep; ``None`` where it is none.

    Returns:
        The content of ``summary.json``.

    Raises:
        ValueError: the configuration is refused, or a file is missing, damaged or cannot be written.
        Diverged: the loss became NaN or infinite.
    """
    cfg, given = plain(cfg), folder is not None
    check_job(cfg)
    folder = Path(folder) if folder is not None else new_folder()
    if resume and (done := finished(folder, cfg)) is not None:
        return done
    if not resume and in_sweep is None and not cfg["overwrite"]:
        check_unused(folder)
    summary = new_summary(folder, overrides)
    with Interrupt() as interrupt:
        try:
            with interrupt.at_once():
                session = prepare(cfg, folder, resume, summary, in_sweep)
        except BaseException as error:
            note_failure(summary, error)
            if given and not resume:  # a folder that was made for this run says what became of it
                summary.write(folder / "summary.json")
            raise
        try:
            fit(session, interrupt)
        except BaseException as error:
            session.fail(error)
            if isinstance(error, NotWritten):
                raise ValueError(
                    f"{error}. Free some space; resume={folder} goes on from the last good checkpoint."
                ) from error
            raise
        session.conclude()
    return summary


def check_job(cfg: dict[str, Any]) -> None:
    """Refuse a configuration that another job of ours is for; a job of a user's own may train.

    Raises:
        ValueError: names the job's function.
    """
    room, _, job = cfg["job"]["_target_"].rpartition(".")
    if room == "mltricks.jobs" and job != "train":
        raise ValueError(f"this configuration is of a job that does not train ({job}). Compose it without job=.")


class Group(Protocol):
    """What the loop trains: one run, or the members of a stack, which are all at the same step."""

    @property
    def going(self) -> bool:
        """Whether there is more to train."""

    @property
    def lead(self) -> Session:
        """The session whose settings say what is due; the others have the same."""

    def advance(self, step: int) -> int:
        """Make one or more updates after ``step``, up to what is due next at most; the updates made by then."""

    def record(self, step: int) -> None:
        """Tell the metrics of training."""

    def validate(self, step: int) -> None:
        """Measure on the validation split, keep the best weights, and ask who ends here."""

    def save_due(self, step: int) -> bool:
        """Whether checkpoints are written now."""

    def save(self) -> None:
        """Write the checkpoints."""

    def complete(self) -> None:
        """The last update was made."""


def loop(group: Group, step: int, interrupt: Interrupt) -> int | None:
    """Train from ``step`` until all have ended or a signal asks to stop; the signal, where it cut training short."""
    asked = None
    while group.going and not asked:
        lead = group.lead
        step = group.advance(step)
        if lead.record_due(step):
            group.record(step)
        if group.going and lead.validation_due(step):
            group.validate(step)
        asked = interrupt.signal  # read once: a signal after this line waits for the next step
        if group.save_due(step) or asked:
            group.save()
        if step == lead.run.total_steps:
            group.complete()
    return asked if group.going else None


class Alone:
    """A run that trains by itself, as the loop sees it.

    Args:
        session: the run and what stands beside it.

    Attributes:
        ends: how it ends, once that is known.
    """

    def __init__(self, session: Session):
        self.lead, self.ends = session, "stopped_early" if session.start() else None
        self.batches = session.run.batches(session.step)
        if session.step >= session.run.total_steps:
            self.complete()

    @property
    def going(self) -> bool:
        return self.ends is None

    def advance(self, step: int) -> int:
        run = self.lead.run
        batch = next(self.batches)
        reseed_step(run.cfg["seed"], step)
        self.lead.ledger.add(advance(run, batch, step))
        for observer in self.lead.observers:
            observer.step(step + 1)
        return step + 1

    def record(self, step: int) -> None:
        self.lead.record_training(step)

    def validate(self, step: int) -> None:
        if validate(self.lead, step):
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
    """Train one run to the end or until somebody asks to stop; then test once. The summary takes the outcome."""
    alone = Alone(session)
    asked = loop(alone, session.step, interrupt)
    if alone.ends == "pruned":
        session.summary.status = alone.ends
    elif alone.ends is None:
        session.summary.status, session.summary.signal = "interrupted", asked
    else:
        with interrupt.at_once():  # the last checkpoint is written: from there this part can be made again
            metrics = test(session)
        session.record_test(metrics, alone.ends)


def advance(run: Run, batch: Any, step: int) -> dict[str, torch.Tensor]:
    """One update of ``run.state``; where memory runs out, the same update in smaller micro-batches."""
    while True:
        try:
            run.state, metrics = run.step(run.state, batch, run.hypers.at(step))
            return metrics
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            with_smaller_micro_batches(run, error)


def validate(session: Session, step: int) -> bool:
    """Measure on the validation split and keep the best weights so far; whether an observer asks to stop."""
    run = session.run
    session.ledger.check_finite(step, run.state["params"])
    session.reseed(step, AFTER)
    metrics = evaluate(run.predict, run.objective, run.state, run.data.val, run.cfg["eval_batch_size"])
    return session.record_validation(
        step, metrics, lambda state: save_weights(session.folder / BEST, run, *predicting_weights(run, state))
    )


def test(session: Session) -> dict[str, float]:
    """The metrics of the best weights on the test split; observers see the outputs."""
    run = session.run
    weights, about = load_weights(session.folder / BEST)
    watch = [observer.tested for observer in session.observers]
    session.reseed(session.step, AFTER + 1)
    predict, batch_size = predict_with(run, weights, about["own"]), run.cfg["eval_batch_size"]
    return evaluate(predict, run.objective, run.state, run.data.test, batch_size, watch)
