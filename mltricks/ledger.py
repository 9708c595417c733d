"""The ledger of a run: metrics since the last record, the validation scores, and the training time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mltricks.evaluate import Score
from mltricks.hyper import Hypers
from mltricks.observers.base import AROUND, EPOCH, Observer, Record, of_epoch
from mltricks.summary import Summary


class Diverged(Exception):
    """The loss or a weight became NaN or infinite."""


class Ledger:
    """Keeps step metrics on the device until a record is due: reading them earlier would synchronise every step.

    Args:
        hypers: of the run, for the learning rate in a record.
        steps_per_epoch: updates an epoch.
        score: the validation metric that steers the run, and its direction.
    """

    def __init__(self, hypers: Hypers, steps_per_epoch: int, score: Score):
        self.hypers, self.steps_per_epoch, self.score = hypers, steps_per_epoch, score
        self.window: list[dict[str, Tensor]] = []  # an entry holds one step, or several in a row
        self.epoch_sums: dict[str, float] = {}
        self.epoch_steps = 0
        self.best: Record = {}
        self.scores: list[tuple[int, float]] = []  # of every validation, with the updates before it
        self.last_train: Record = {}
        self.seconds, self.seconds_at_record = 0.0, 0.0
        self.clock = time.perf_counter()

    def begin(self) -> None:
        """Start the clock; building the run does not count as training time."""
        self.clock = time.perf_counter()

    def epoch(self, step: int) -> int:
        """The epoch of update ``step``, both counted from 1."""
        return -(-step // self.steps_per_epoch)

    def tick(self) -> float:
        """Seconds of the run so far, including the time before restarts."""
        now = time.perf_counter()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        return self.seconds

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Store the metrics of a step (0-d) or of several steps (each (steps,))."""
        self.window.append(metrics)

    def record_due(self, step: int, every: int, total: int) -> bool:
        return step % every == 0 or step % self.steps_per_epoch == 0 or step == total

    def validation_due(self, step: int, every_epochs: int, total: int) -> bool:
        return step % (self.steps_per_epoch * every_epochs) == 0 or step == total

    def record_training(self, step: int, batch_size: int, observers: Sequence[Observer]) -> None:
        """Report the mean metrics since the last record, and at the end of an epoch also the epoch's means.

        Raises:
            Diverged: the loss of one of these steps is NaN or infinite.
        """
        self.check_finite(step)
        window = self._stacked()
        means = {name: float(values.cpu().double().mean()) for name, values in window.items()}
        seconds = self.tick()
        speed = _length(window) * batch_size / max(seconds - self.seconds_at_record, 1e-9)
        means |= self._epoch_means(window, step)
        record = {"step": step, "epoch": self.epoch(step), "split": "train", **means, "lr": self._lr(step - 1)}
        self.window, self.seconds_at_record = [], seconds
        self.last_train = {**record, "samples_per_s": round(speed, 1), "seconds": round(seconds, 3)}
        self.tell(self.last_train, observers)

    def _epoch_means(self, window: dict[str, Tensor], step: int) -> dict[str, float]:
        """The means over the epoch if it ends with this record, else nothing. A run may end within an epoch."""
        for name, values in window.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + float(values.cpu().double().sum())
        self.epoch_steps += _length(window)
        if step % self.steps_per_epoch and step != self.hypers.total_steps:
            return {}
        means = {f"{EPOCH}{name}": total / self.epoch_steps for name, total in self.epoch_sums.items()}
        if step % self.steps_per_epoch == 0:
            self.epoch_sums, self.epoch_steps = {}, 0
        return means

    def record_validation(
        self, step: int, metrics: dict[str, float], observers: Sequence[Observer]
    ) -> tuple[Record, bool]:
        """Report validation metrics; return the record, and whether it is the best so far.

        Raises:
            Diverged: the loss or the score is NaN or infinite, though the weights are finite.
        """
        for name in ("loss", self.score.score):
            if not math.isfinite(metrics.get(name, 0.0)):
                raise self._diverged(step, f"the validation {name} became {metrics[name]}")
        record = {"step": step, "epoch": self.epoch(step), "split": "val", **metrics, "seconds": round(self.tick(), 3)}
        self.seconds_at_record = self.seconds
        is_best = not self.best or self._rank(record) > self._rank(self.best)
        if is_best:
            self.best = record
        self.scores.append((step, float(metrics[self.score.score])))
        self.hypers.follow(self.scores, self.score.higher_is_better)
        self.tell(record, observers)
        return record, is_best

    def _rank(self, record: Record) -> tuple[float, float]:
        """Sort key of a record: the score, and the loss to break ties."""
        sign = 1.0 if self.score.higher_is_better else -1.0
        return sign * record[self.score.score], -record.get("loss", 0.0)

    def tell(self, record: Record, observers: Sequence[Observer]) -> None:
        for observer in observers:
            observer.record(record)

    def check_finite(self, step: int, params: dict[str, Tensor] | None = None) -> None:
        """Check the losses since the last record and, if given, the weights.

        Raises:
            Diverged: one of them is NaN or infinite.
        """
        window = self._stacked()
        losses = window.get("loss", torch.zeros(0))
        bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
        first = step - _length(window) + 1 + bad[0] if bad else step
        what = f"the loss became {float(losses[bad[0]])}" if bad else ""
        if (
            not bad
            and params is not None
            and not bool(torch.stack([p.isfinite().all() for p in params.values()]).all())
        ):
            what = "a weight became NaN or infinite"
        if what:
            raise self._diverged(first, what)

    def _diverged(self, step: int, what: str) -> Diverged:
        return Diverged(
            f"diverged at step {step}: {what}. Try: a smaller optim.lr (the rate was {self._lr(step - 1):g}), "
            "scheduler.warmup_frac=0.05, technique=clip_norm."
        )

    def remember(self, observers: Sequence[Observer]) -> dict[str, Any]:
        """The ledger's and the observers' part of a checkpoint, as tensors."""
        number = lambda v: torch.tensor(float(v), dtype=torch.float64)  # noqa: E731
        kept: dict[str, Any] = {
            "window": self._stacked(),
            "epoch_sums": {name: number(total) for name, total in self.epoch_sums.items()},
            "epoch_steps": number(self.epoch_steps),
            "best": {k: number(v) for k, v in self.best.items() if isinstance(v, int | float)},
            "last_train": {k: number(v) for k, v in self.last_train.items() if isinstance(v, int | float)},
            "scores": torch.tensor(self.scores, dtype=torch.float64).reshape(-1, 2),
            "seconds": number(self.tick()),
            "seconds_at_record": number(self.seconds_at_record),
        }
        return {**kept, **{f"observer.{type(o).__name__}": o.memory() for o in observers}}

    def recall(self, kept: dict[str, Any], observers: Sequence[Observer]) -> None:
        """Restore the result of ``remember``."""
        self.window = [kept["window"]] if kept["window"] else []
        self.epoch_sums = {name: float(total) for name, total in kept["epoch_sums"].items()}
        self.epoch_steps = int(kept["epoch_steps"])
        self.best = _record(kept["best"], "val")
        self.last_train = _record(kept["last_train"], "train")
        self.scores = [(int(step), score) for step, score in kept.get("scores", torch.zeros(0, 2)).tolist()]
        self.hypers.follow(self.scores, self.score.higher_is_better)
        self.seconds, self.seconds_at_record = float(kept["seconds"]), float(kept["seconds_at_record"])
        self.clock = time.perf_counter()
        for observer in observers:
            observer.recall(kept.get(f"observer.{type(observer).__name__}", {}))

    def describe(self, summary: Summary, step: int) -> None:
        """Copy the measurements into a summary."""
        summary.steps, summary.epochs, summary.seconds = step, step // self.steps_per_epoch, round(self.tick(), 3)
        summary.train, summary.val = _metrics(of_epoch(self.last_train)), _metrics(self.best)
        tested = {"test": self.best["epoch"]} if summary.test else {}
        told = {"train": self.last_train, "val": self.best}
        summary.epoch_of = {split: record["epoch"] for split, record in told.items() if record} | tested
        score = self.score.score
        direction = "maximize" if self.score.higher_is_better else "minimize"
        summary.objective = {"name": f"val/{score}", "value": summary.val.get(score, math.nan), "direction": direction}

    def _stacked(self) -> dict[str, Tensor]:
        names = self.window[0] if self.window else {}
        return {name: torch.cat([metrics[name].reshape(-1) for metrics in self.window]) for name in names}

    def _lr(self, step: int) -> float:
        return self.hypers.values(step).get(("optim", "lr"), self.hypers.constants["optim"]["lr"])


def _length(window: dict[str, Tensor]) -> int:
    return len(next(iter(window.values()))) if window else 0


def _record(kept: dict[str, Tensor], split: str) -> Record:
    if not kept:
        return {}
    return {"split": split, **{k: int(v) if k in ("step", "epoch") else float(v) for k, v in kept.items()}}


def _metrics(record: Record) -> dict[str, float]:
    return {k: v for k, v in record.items() if k not in AROUND}
