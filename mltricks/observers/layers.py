"""Norms of the gradient, of the weights and of an update, for groups of layers, at a few moments of a run.

They go to ``layers.jsonl``, for the report: ``{"step", "epoch", "groups": {name: {"gradient", "weight", "ratio"}}}``.
``ratio`` is the norm of one update divided by that of the weights before it. ``gradient`` is of the training loss on
the run's first batch, as techniques change batch and loss, before techniques that change the gradient.

Nothing of the run changes: weights are copied before a measured update, random generators are put back, and numbers are
read from the device when a record is due. Cost: one more backward pass and one copy of the weights for each measured
update, of which there are at most 50 in a run, and never two within 50 updates.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mltricks.observers.base import Observer, Record
from mltricks.observers.files import read_records
from mltricks.process.atomic import write_atomically
from mltricks.state import reseed_step
from mltricks.step import gradient, normalized, onion, split_at_normalize, through
from mltricks.technique import Ctx, Params, bind

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

FILE = "layers.jsonl"
MOST, APART = 50, 50
"""Most measured updates of a run, and the least number of updates from one to the next."""
MAX_GROUPS = 8
MEASURE = 4
"""Folded into a step's seed, so that the measurement has draws of its own."""


class Layers(Observer):
    """Measures and writes ``layers.jsonl``. An error ends the measurement and not the run."""

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.run, self.path, self.broken = run, folder / FILE, False
        self.every = max(APART, -(-run.total_steps // MOST))
        self.groups = grouped([name for name in run.state["params"] if name not in run.frozen])
        self.before: Params = {}
        self.waiting: list[tuple[int, dict[str, Tensor]]] = []
        self.batch: Any = None
        kept = [r for r in read_records(self.path) if r["step"] <= resumed_at] if resumed_at else []
        write_atomically(self.path, lambda partial: partial.write_text("".join(json.dumps(r) + "\n" for r in kept)))
        self.step(resumed_at)

    def due(self, step: int) -> bool:
        """Whether update ``step``, counted from 1, is measured: the first, every so many, and the last."""
        return step == 1 or step % self.every == 0 or step == self.run.total_steps

    def step(self, step: int) -> None:
        """Called after update ``step``: finish its measurement, and begin that of the next one."""
        params = self.run.state.get("params")  # a member of a stack has none between its records
        if self.broken or params is None or not (self.before or self.due(step + 1)):
            return
        try:
            if self.before:
                self.waiting.append((step, changes(self.before, params, self.groups)))
                self.before = {}
            if self.due(step + 1) and step < self.run.total_steps:
                self.before = {name: params[name].clone() for names in self.groups.values() for name in names}
                self.waiting.append((step + 1, {"gradient": norms(self.gradient(step), self.groups)}))
        except Exception as error:  # out of memory, or a technique that cannot be run outside the step
            self.broken, self.before = True, {}
            print(f"plots: layers could not be measured ({type(error).__name__}: {error})", file=sys.stderr)

    def gradient(self, step: int) -> Params:
        """The gradient of the training loss on the run's first batch, at the present weights."""
        run, state = self.run, self.run.state
        if self.batch is None:
            self.batch = next(run.batches(0))
        bound = {name: bind(t, run.hypers.at(step).get(name, {})) for name, t in run.techniques.items()}
        raw, ready = split_at_normalize(bound)
        parts = dict(state["buffers"]), state["own"], state["step"], run.hypers.at(step)["progress"]
        ctx = Ctx(run.model, *parts, run.data.info.num_outputs, steps_per_epoch=run.source.steps_per_epoch)
        with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            reseed_step(run.cfg["seed"], step, MEASURE)
            batch = normalized(through(bound, raw, dict(self.batch), ctx), run.data.info.normalize)
            batch = through(bound, ready, batch, ctx)
            moving = {n: p for n, p in state["params"].items() if n not in run.frozen}
            return gradient(onion(bound, "loss", run.objective), state["params"])(moving, batch, ctx)[0]

    def record(self, record: Record) -> None:
        if record["split"] == "train" and self.waiting:
            self.write(record["epoch"])

    def write(self, epoch: int) -> None:
        """Append the finished measurements to the file."""
        found: dict[int, dict[str, Tensor]] = {}
        for step, part in self.waiting:
            found.setdefault(step, {}).update(part)
        whole = {step: row for step, row in found.items() if {"gradient", "weight", "ratio"} <= row.keys()}
        self.waiting = [(step, part) for step, part in self.waiting if step not in whole]
        lines = ""
        for step, row in whole.items():
            numbers = {key: values.tolist() for key, values in row.items()}
            groups = {name: {key: round_(v[i]) for key, v in numbers.items()} for i, name in enumerate(self.groups)}
            lines += json.dumps({"step": step, "epoch": epoch, "groups": groups}) + "\n"
        with self.path.open("a") as file:
            file.write(lines)

    def finish(self, summary: Summary) -> None:
        self.before, self.batch = {}, None


def round_(value: float) -> float:
    """A number with the digits that a curve can show."""
    return float(f"{value:.5g}")


def changes(before: Params, after: Params, groups: dict[str, list[str]]) -> dict[str, Tensor]:
    """The norm of the weights before an update, and that of the update divided by it, of every group: (groups,)."""
    weight = norms(before, groups)
    names = list(before)
    moved = dict(zip(names, torch._foreach_sub([after[n] for n in names], [before[n] for n in names]), strict=True))
    return {"weight": weight, "ratio": norms(moved, groups) / weight.clamp_min(1e-12)}


def norms(tensors: Params, groups: dict[str, list[str]]) -> Tensor:
    """The Euclidean norm of every group of tensors, (groups,) float32, on the device."""
    found = dict(zip(tensors, torch._foreach_norm(list(tensors.values())), strict=True))
    return torch.stack([torch.stack([found[n].float() for n in names]).norm() for names in groups.values()])


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of parameters by group: by module as deep as ``MAX_GROUPS`` allows, else by neighbours.

    >>> grouped(["a.0.weight", "a.0.bias", "a.1.weight", "b.weight"])
    {'a.0': ['a.0.weight', 'a.0.bias'], 'a.1': ['a.1.weight'], 'b': ['b.weight']}
    """
    names = list(names)
    deepest = max((name.count(".") for name in names), default=1)
    for depth in range(max(deepest, 1), 0, -1):
        groups: dict[str, list[str]] = {}
        for name in names:
            modules = name.split(".")[:-1] or [name]
            groups.setdefault(".".join(modules[:depth]), []).append(name)
        if len(groups) <= MAX_GROUPS:
            return groups
    size = -(-len(groups) // MAX_GROUPS)
    keys = list(groups)
    chunks = [keys[i : i + size] for i in range(0, len(keys), size)]
    return {
        chunk[0] if len(chunk) == 1 else f"{chunk[0]} to {chunk[-1]}": [n for key in chunk for n in groups[key]]
        for chunk in chunks
    }
