"""The float hyperparameters of a run, step by step: numbers for the eager engine, 0-d tensors for the tracing ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from mltricks.step import Hyper

Drive = Callable[[float], float]
"""Progress in [0, 1) to the value of a hyperparameter."""
CHUNK = 256


@dataclass
class HyperPlan:
    """What every float is at every step.

    Args:
        constants: ``{owner: {name: value}}``; the owner is ``optim`` or a technique.
        drives: ``{(owner, name): progress -> value}`` for the floats a schedule drives.
        total_steps: length of the run.
        device: where tensors are made; ``None`` for plain numbers.
    """

    constants: dict[str, dict[str, float]]
    drives: dict[tuple[str, str], Drive]
    total_steps: int
    device: torch.device | None = None
    _fixed: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _tables: dict[int, dict[Any, torch.Tensor]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.device is None:
            owners = {"optim"} | {owner for owner, _ in self.drives}
            fixed = {owner: self.constants.get(owner, {}) for owner in owners if owner == "optim" or owner in self.constants}
            self._fixed = {owner: dict(values) for owner, values in fixed.items()}
        else:
            self._fixed = {
                owner: {name: torch.tensor(v, dtype=torch.float32, device=self.device) for name, v in values.items()}
                for owner, values in self.constants.items()
            }

    def progress(self, step: int) -> float:
        """The share of the run that is done before the update number ``step``, counted from 0."""
        return step / self.total_steps

    def values(self, step: int) -> dict[tuple[str, str], float]:
        """The scheduled hyperparameters at a step, as numbers."""
        progress = self.progress(step)
        return {path: drive(progress) for path, drive in self.drives.items()}

    def at(self, step: int) -> Hyper:
        """What the step takes as ``hyper``."""
        if self.device is None:
            hyper: Hyper = {**self._fixed, "progress": self.progress(step)}
            for owner, name in self.drives:
                hyper[owner] = dict(hyper[owner])
            for (owner, name), value in self.values(step).items():
                hyper[owner][name] = value
            return hyper
        return self._tensors_at(step)

    def _tensors_at(self, step: int) -> Hyper:
        """Views into tables made for a chunk of steps at a time, so that no step copies a number to the device."""
        chunk, row = divmod(step, CHUNK)
        if chunk not in self._tables:
            steps = range(chunk * CHUNK, (chunk + 1) * CHUNK)
            rows: dict[Any, list[float]] = {path: [] for path in self.drives} | {"progress": []}
            for i in steps:
                rows["progress"].append(self.progress(i))
                for path, value in self.values(min(i, self.total_steps - 1)).items():
                    rows[path].append(value)
            self._tables = {chunk: {p: torch.tensor(v, dtype=torch.float32, device=self.device) for p, v in rows.items()}}
        table = self._tables[chunk]
        hyper: Hyper = {owner: dict(values) for owner, values in self._fixed.items()}
        for owner, name in self.drives:
            hyper[owner][name] = table[owner, name][row]
        hyper["progress"] = table["progress"][row]
        return hyper
