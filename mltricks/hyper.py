"""The float hyperparameters at every step: numbers for the eager engine, 0-d tensors for the tracing engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from mltricks.step import Hyper

Drive = Callable[[float], float]
"""A schedule: maps progress in [0, 1) to the value of a hyperparameter."""
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

    def values(self, step: int) -> dict[tuple[str, str], float]:
        """The scheduled hyperparameters at a step, as numbers."""
        progress = self.progress(step)
        return {path: drive(progress) for path, drive in self.drives.items()}

    def at(self, step: int) -> Hyper:
        """The step's argument ``hyper``. Constant numbers are left out, because their owners hold them already."""
        if self.device is not None:
            return self._tensors_at(step)
        progress = step / self.total_steps
        hyper: Hyper = {"optim": {}, "progress": progress}
        for (owner, name), drive in self.drives.items():
            hyper.setdefault(owner, {})[name] = drive(progress)
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
