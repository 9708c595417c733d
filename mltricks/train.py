"""The loop: batches through the step, and observers beside it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from mltricks import checkpoint
from mltricks.atomic import NotWritten, remove_partial
from mltricks.build import STEP, Run, build
from mltricks.checkpoint import LAST
from mltricks.config import plain
from mltricks.evaluate import evaluate, steered_by
from mltricks.interrupt import Interrupt, stopped_by
from mltricks.ledger import Diverged, Ledger
from mltricks.memory import is_out_of_memory, with_smaller_micro_batches
from mltricks.observers.base import Moment, Observer
from mltricks.state import fold, reseed
from mltricks.summary import Summary, git_state
from mltricks.weights import load_weights, predict_with, predicting_weights, save_weights

BEST = Path("checkpoints/best.safetensors")
AFTER = 1
"""Folded into a step's seed for what happens after it: validation, and then the test."""


def train(cfg: Any, folder: str | Path | None = None, resume: bool = False, overrides: Sequence[str] = ()) -> Summary:
    """Train a model as configured.

    Args:
        cfg: what ``mltricks.compose`` returns, or the same as nested dicts.
        folder: output folder; by default a new one under ``outputs/``.
        resume: go on where the checkpoint in ``folder`` stopped.
        overrides: the command's overrides, for the record.

    Returns:
        The content of ``summary.json``.

    Raises:
        ValueError: the configuration is refused, or a file is missing, damaged or cannot be written.
        Diverged: the loss became NaN or infinite.
    """
    from mltricks.observers.create import new_folder
    from mltricks.resume import finished

    cfg, given = plain(cfg), folder is not None
    folder = Path(folder) if folder is not None else new_folder()
    if resume and (summary := finished(folder)) is not None:
        return summary
    summary = Summary("failed", overrides=list(overrides), versions=checkpoint.versions(), folder=str(folder))
    with Interrupt() as interrupt:
        try:
            with interrupt.at_once():
                summary.git = git_state()
                run, ledger, observers = prepare(cfg, folder, resume, summary)
        except BaseException as error:
            note_failure(summary, error)
            if given and not resume:  # a folder that was made for this run says what became of it
                summary.write(folder / "summary.json")
            raise
        try:
            fit(run, ledger, observers, folder, summary, interrupt)
        except BaseException as error:
            note_failure(summary, error)
            with suppress(Exception):  # a full disk fails here again; the first error is the one to tell
                conclude(run, ledger, observers, folder, summary)
            if isinstance(error, NotWritten):
                raise ValueError(
                    f"{error}. Free some space; resume={folder} goes on from the last good checkpoint."
                ) from error
            raise
        conclude(run, ledger, observers, folder, summary)
    return summary


def prepare(cfg: dict[str, Any], folder: Path, resume: bool, summary: Summary) -> tuple[Run, Ledger, list[Observer]]:
    """Build the run and what stands beside it; where it goes on, take back what was saved."""
    from mltricks.observers.create import create_observers

    saved = load_saved(cfg, folder) if resume else None
    run = build(cfg)
    ledger = Ledger(run.plan, run.source.steps_per_epoch, steered_by(run))
    observers = create_observers(cfg, folder)
    if not resume:
        shutil.rmtree(folder / "plots", ignore_errors=True)
        for stale in (
            "summary.json",
            "report.html",
            LAST,
            BEST,
        ):  # of an earlier run in this folder: it must not pass for this one
            (folder / stale).unlink(missing_ok=True)
    if saved is not None:
        run.state = checkpoint.restore(saved["state"], run.state, folder / LAST)
        ledger.recall(run.state.pop("host"), observers)
        known = saved["overrides"]
        summary.overrides = known + [o for o in summary.overrides if o not in known and not o.startswith("resume=")]
    summary.device = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else str(run.device)
    return run, ledger, observers


def load_saved(cfg: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The checkpoint of the run in a folder, or ``None`` where it was stopped before its first: it then begins anew.

    Raises:
        ValueError: the configuration would not go on with that run but make another.
    """
    from mltricks.resume import differences, is_free, saved_config

    for path, (mine, theirs) in differences(cfg, saved_config(folder)).items():
        if not is_free(path):
            raise ValueError(f"{path}={mine} cannot go on with the run in {folder}, where it was {theirs}.")
    for place in (folder, (folder / LAST).parent):
        remove_partial(place)
    return checkpoint.load(folder / LAST) if (folder / LAST).exists() else None


def note_failure(summary: Summary, error: BaseException) -> None:
    """Write into a summary how a run ended that did not end well."""
    summary.status = "diverged" if isinstance(error, Diverged) else "failed"
    summary.error = str(error)
    if stopped_by() is not None:
        summary.status, summary.error, summary.signal = "interrupted", None, stopped_by()


def conclude(run: Run, ledger: Ledger, observers: Sequence[Observer], folder: Path, summary: Summary) -> None:
    """Write the summary, and let the observers finish."""
    ledger.describe(summary, int(run.state["step"]))
    summary.write(folder / "summary.json")
    for observer in observers:
        observer.finish(summary)


def fit(
    run: Run, ledger: Ledger, observers: Sequence[Observer], folder: Path, summary: Summary, interrupt: Interrupt
) -> None:
    """Train to the end or until an observer or a signal asks to stop; then test once. ``summary`` takes the outcome."""
    seed, cfg, start = run.cfg["seed"], run.cfg, int(run.state["step"])
    every = cfg["checkpoint_every_steps"]
    for observer in observers:
        observer.start(run, folder, start)
    stop = any([observer.stopped() for observer in observers])
    asked = None
    ledger.begin()
    for step, batch in zip(range(start, start if stop else run.total_steps), run.source.stream(start), strict=False):
        reseed(fold(seed, STEP, step))
        metrics = advance(run, batch, step)
        ledger.add(metrics)
        done = step + 1
        for observer in observers:
            observer.step(done)
        if ledger.record_due(done, cfg["log_every"], run.total_steps):
            ledger.record_training(done, cfg["batch_size"], observers)
        validate_now = ledger.validation_due(done, cfg["eval_every_epochs"], run.total_steps)
        if validate_now:
            stop = validate(run, ledger, observers, folder, done)
        asked = interrupt.signal  # read once: a signal between the next two lines waits for the next step
        if validate_now or asked or (every and done % every == 0):
            save(run, ledger, observers, folder, summary)
        if stop or asked:
            break
    if asked and int(run.state["step"]) < run.total_steps and not stop:
        summary.status, summary.signal = "interrupted", asked
        return
    with interrupt.at_once():  # the last checkpoint is written: from there this part can be made again
        summary.test = test(run, folder, observers)
    steps = int(run.state["step"])
    ledger.tell({"step": steps, "epoch": ledger.epoch(steps), "split": "test", **summary.test}, observers)
    summary.status = "stopped_early" if stop else "completed"


def advance(run: Run, batch: Any, step: int) -> dict[str, torch.Tensor]:
    """One update of ``run.state``; where memory runs out, the same update in smaller micro-batches."""
    while True:
        try:
            run.state, metrics = run.step(run.state, batch, run.plan.at(step))
            return metrics
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            with_smaller_micro_batches(run, error)


def validate(run: Run, ledger: Ledger, observers: Sequence[Observer], folder: Path, step: int) -> bool:
    """Measure on the validation split and keep the best weights so far; whether an observer asks to stop."""
    ledger.check_finite(step, run.state["params"])
    reseed(fold(run.cfg["seed"], STEP, step, AFTER))  # whatever the process did before, a resumed one does the same
    metrics = evaluate(run.predict, run.objective, run.state, run.data.val, run.cfg["eval_batch_size"])
    record, is_best = ledger.record_validation(step, metrics, observers)
    if is_best:
        save_weights(folder / BEST, run, *predicting_weights(run, run.state))
    moment = Moment(run.state, record, is_best)
    return any([observer.validated(moment) for observer in observers])


def save(run: Run, ledger: Ledger, observers: Sequence[Observer], folder: Path, summary: Summary) -> None:
    """Write the checkpoint, unless the run has diverged."""
    ledger.check_finite(int(run.state["step"]), run.state["params"])
    state = {**run.state, "host": ledger.remember(observers)}
    checkpoint.save(folder / LAST, state, run.cfg, summary.overrides)


def test(run: Run, folder: Path, observers: Sequence[Observer]) -> dict[str, float]:
    """The metrics of the best weights on the test split; observers see the outputs."""
    weights, about = load_weights(folder / BEST)
    watch = [observer.tested for observer in observers]
    reseed(fold(run.cfg["seed"], STEP, int(run.state["step"]), AFTER + 1))
    predict, batch_size = predict_with(run, weights, about["own"]), run.cfg["eval_batch_size"]
    return evaluate(predict, run.objective, run.state, run.data.test, batch_size, watch)
