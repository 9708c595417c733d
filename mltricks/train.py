"""The loop: batches through the step, and observers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def fit(session: Session, interrupt: Interrupt) -> None:
    """Train to the end or until an observer or a signal asks to stop; then test once. The summary takes the outcome."""
    run, observers, start = session.run, session.observers, session.step
    seed, every = run.cfg["seed"], run.cfg["checkpoint_every_steps"]
    stop, hopeless, asked = session.start(), False, None
    for step, batch in zip(range(start, start if stop else run.total_steps), run.batches(start), strict=False):
        reseed_step(seed, step)
        session.ledger.add(advance(run, batch, step))
        done = step + 1
        for observer in observers:
            observer.step(done)
        if session.record_due(done):
            session.record_training(done)
        validate_now = session.validation_due(done)
        if validate_now:
            stop = validate(session, done)
            hopeless = not stop and done < run.total_steps and session.hopeless()
        asked = interrupt.signal  # read once: a signal between the next two lines waits for the next step
        if validate_now or asked or (every and done % every == 0):
            session.save()
        if stop or hopeless or asked:
            break
    if hopeless:
        session.summary.status = "pruned"
    elif asked and session.step < run.total_steps and not stop:
        session.summary.status, session.summary.signal = "interrupted", asked
    else:
        with interrupt.at_once():  # the last checkpoint is written: from there this part can be made again
            metrics = test(session)
        session.record_test(metrics, "stopped_early" if stop else "completed")


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
