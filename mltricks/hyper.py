"""The float hyperparameters at every step: numbers for the eager engine, 0-d tensors for the tracing engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mltricks.schedules.base import Drive, Following
from mltricks.step import Hyper

CHUNK = 256


@dataclass
class Hypers:
    """The value of every float hyperparameter at every step.

    Args:
        constants: ``{owner: {name: value}}``; the owner is ``optim`` or a technique.
        drives: ``{(owner, name): progress -> value}`` for the scheduled floats.
        total_steps: length of the run.
        device: of the tensors; ``None`` for plain numbers.
    """

    constants: dict[str, dict[str, float]]
    drives: dict[tuple[str, str], Drive]
    total_steps: int
    device: torch.device | None = None
    scores: tuple[tuple[int, float], ...] = field(default=(), init=False)
    """The validation scores so far, each with the number of updates before it."""
    higher_is_better: bool = field(default=True, init=False)
    _fixed: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _tables: dict[int, dict[Any, tuple[torch.Tensor, ...]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.device is not None:
            self._fixed = {
                owner: {name: torch.tensor(v, dtype=torch.float32, device=self.device) for name, v in values.items()}
                for owner, values in self.constants.items()
            }

    def progress(self, step: int) -> float:
        """The fraction of the run completed before update ``step``, counted from 0."""
        return step / self.total_steps

    @property
    def following(self) -> list[tuple[str, str]]:
        """The hyperparameters that follow the validation score."""
        return [path for path, drive in self.drives.items() if isinstance(drive, Following)]

    def follow(self, scores: Sequence[tuple[int, float]], higher_is_better: bool) -> None:
        """Set the validation scores so far; a table made before is no longer right where something follows them."""
        if self.following:
            self.scores, self.higher_is_better, self._tables = tuple(scores), higher_is_better, {}

    def values(self, step: int) -> dict[tuple[str, str], float]:
        """The scheduled hyperparameters at a step, as numbers: a function of the step and of the scores before it."""
        progress, seen = self.progress(step), tuple(score for made, score in self.scores if made <= step)
        return {
            path: drive.after(progress, seen, self.higher_is_better)
            if isinstance(drive, Following)
            else drive(progress)
            for path, drive in self.drives.items()
        }

    def at(self, step: int) -> Hyper:
        """The step's argument ``hyper``. Constant numbers are left out, because their owners hold them already."""
        if self.device is not None:
            return self._tensors_at(step)
        hyper: Hyper = {"optim": {}, "progress": self.progress(step)}
        for (owner, name), value in self.values(step).items():
            hyper.setdefault(owner, {})[name] = value
        return hyper

    def _tensors_at(self, step: int) -> Hyper:
        """Tensors from a table that covers a chunk of steps, so that no step copies a number to the device."""
        chunk, row = divmod(step, CHUNK)
        if chunk not in self._tables:
            self._tables = {chunk: self._table(chunk)}
        table = self._tables[chunk]
        hyper: Hyper = {owner: dict(values) for owner, values in self._fixed.items()}
        for owner, name in self.drives:
            hyper[owner][name] = table[owner, name][row]
        hyper["progress"] = table["progress"][row]
        return hyper

    def _table(self, chunk: int) -> dict[Any, tuple[torch.Tensor, ...]]:
        """All changing values at every step of a chunk; rows past the end of the run repeat its last step."""
        steps = [min(i, self.total_steps - 1) for i in range(chunk * CHUNK, (chunk + 1) * CHUNK)]
        rows: dict[Any, list[float]] = {"progress": [self.progress(i) for i in steps]}
        values = [self.values(i) for i in steps]
        rows |= {path: [v[path] for v in values] for path in self.drives}
        return {path: torch.tensor(row, dtype=torch.float32, device=self.device).unbind() for path, row in rows.items()}
