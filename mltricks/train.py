"""The loop: batches through the step, and observers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mltricks import checkpoint
from mltricks.build import STEP, Run, build
from mltricks.config import plain
from mltricks.evaluate import evaluate
from mltricks.interrupt import Interrupt
from mltricks.ledger import Diverged, Ledger
from mltricks.memory import is_out_of_memory, with_smaller_micro_batches
from mltricks.observers.base import Moment, Observer
from mltricks.state import fold, reseed
from mltricks.summary import Summary, git_state
from mltricks.weights import load_weights, predict_with, predicting_weights, save_weights

LAST, BEST = Path("checkpoints/last.pt"), Path("checkpoints/best.safetensors")


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
        ValueError: the configuration is refused, or a file is missing or damaged.
        Diverged: the loss became NaN or infinite.
    """
    from mltricks.observers.create import create_observers, new_folder

    cfg = plain(cfg)
    run = build(cfg)
    folder = Path(folder) if folder is not None else new_folder()
    ledger = Ledger(run.plan, run.source.steps_per_epoch, run.objective)
    observers = create_observers(cfg, folder)
    if resume:
        saved = checkpoint.load(folder / LAST)["state"]
        run.state = checkpoint.restore(saved, run.state, folder / LAST)
        ledger.recall(run.state.pop("host"), observers)
    for observer in observers:
        observer.start(run, folder, int(run.state["step"]))

    summary = Summary("failed", overrides=list(overrides), versions=checkpoint.versions(), folder=str(folder))
    summary.device = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else str(run.device)
    summary.git = git_state()
    try:
        fit(run, ledger, observers, folder, summary)
    except BaseException as error:
        summary.status = "diverged" if isinstance(error, Diverged) else "failed"
        summary.error = str(error)
        raise
    finally:
        ledger.describe(summary, int(run.state["step"]))
        summary.write(folder / "summary.json")
        for observer in observers:
            observer.finish(summary)
    return summary


def fit(run: Run, ledger: Ledger, observers: Sequence[Observer], folder: Path, summary: Summary) -> None:
    """Train to the end, or until an observer or a signal asks to stop; then test once. The outcome goes into ``summary``."""
    seed, cfg, start = run.cfg["seed"], run.cfg, int(run.state["step"])
    every = cfg["checkpoint_every_steps"]
    stop = False
    with Interrupt() as interrupt:
        for step, batch in zip(range(start, run.total_steps), run.source.stream(start), strict=False):
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
            if validate_now or interrupt.signal or (every and done % every == 0):
                save(run, ledger, observers, folder)
            if stop or interrupt.signal:
                break
    if interrupt.signal and int(run.state["step"]) < run.total_steps and not stop:
        summary.status, summary.signal = "interrupted", interrupt.signal
        return
    summary.test = test(run, folder)
    ledger.tell({"step": int(run.state["step"]), "epoch": ledger.epoch(int(run.state["step"])), "split": "test", **summary.test}, observers)
    summary.status = "stopped_early" if stop else "completed"


def advance(run: Run, batch: Any, step: int) -> dict[str, torch.Tensor]:
    """One update of ``run.state``; where memory runs out, the same update in smaller micro-batches."""
    while True:
        try:
            run.state, metrics = run.step(run.state, batch, run.plan.at(step))
            return metrics
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            with_smaller_micro_batches(run, error)


def validate(run: Run, ledger: Ledger, observers: Sequence[Observer], folder: Path, step: int) -> bool:
    """Measure on the validation split, keep the weights where they are the best so far; whether an observer asks to stop."""
    metrics = evaluate(run.predict, run.objective, run.state, run.data.val, run.cfg["eval_batch_size"])
    record, is_best = ledger.record_validation(step, metrics, observers)
    if is_best:
        save_weights(folder / BEST, run, predicting_weights(run, run.state))
    moment = Moment(run.state, record, is_best)
    return any([observer.validated(moment) for observer in observers])


def save(run: Run, ledger: Ledger, observers: Sequence[Observer], folder: Path) -> None:
    """Write the checkpoint, unless the run has diverged."""
    ledger.check_finite(int(run.state["step"]), run.state["params"])
    checkpoint.save(folder / LAST, {**run.state, "host": ledger.remember(observers)}, run.cfg)


def test(run: Run, folder: Path) -> dict[str, float]:
    """The metrics of the best weights on the test split."""
    tensors, _ = load_weights(folder / BEST)
    return evaluate(predict_with(run, tensors), run.objective, run.state, run.data.test, run.cfg["eval_batch_size"])
