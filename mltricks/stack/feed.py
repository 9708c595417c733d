"""The inputs of a stacked step: batches, hyperparameters and seeds of all trials.

Each trial gets the same inputs as it would alone. Inputs that all trials share have no trial axis.
Legend: K trials, B batch, N samples of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.build import Run
from mltricks.data.splits import MemorySplit
from mltricks.hyper import CHUNK, Hypers
from mltricks.schedules.base import Drive
from mltricks.stack.layout import merge_rows, split_rows, stack_rows
from mltricks.state import leaves, map_state, merged, rebuild, step_seed
from mltricks.step import Hyper, acting_on_host, on_host, split_at_normalize

LARGEST_COPY = 2**28
"""Keep a normalised float copy of the training inputs if it has at most this many bytes: 256 MiB."""


def stack(trees: Sequence[Any]) -> Any:
    """Stack nested dicts of the same structure: leaves get a leading trial axis, and each row keeps its layout."""
    return merged(stack_rows, trees)


def have_one_seed(runs: Sequence[Run]) -> bool:
    """Whether all trials have the same seed, hence the same batches and random draws."""
    return len({run.cfg["seed"] for run in runs}) == 1


def normalizes_first(run: Run) -> bool:
    """Whether no technique needs raw inputs, so that they can be normalised before the step."""
    raw, _ = split_at_normalize(run.techniques)
    return not raw and run.shapes is None and not acting_on_host(run.techniques)


class Feed:
    """Batches, hyperparameters and seeds of K trials.

    Args:
        runs: the runs of the trials; all use the training data of the first.
    """

    def __init__(self, runs: Sequence[Run]):
        self.seeds_of = [run.cfg["seed"] for run in runs]
        self.one_seed = have_one_seed(runs)
        first = runs[0]
        simple = isinstance(first.data.train, MemorySplit) and first.source.num_unlabeled == 0
        self.batches: Callable[[int], Batch] = (MemoryBatches if simple else StreamedBatches)(runs, self.one_seed).at
        self.normalized = simple and normalizes_first(first)
        self.hypers = StackedHypers([run.hypers for run in runs], first.device)
        self.shapes, self.progress = first.shapes, first.hypers.progress
        self.techniques = first.techniques

    def at(self, step: int) -> tuple[Batch, Hyper, Iterator[int]]:
        """The batches and hyperparameters of an update, and an iterator that folds the seeds on demand."""
        return (
            self._shaped(self._on_host(self.batches(step), step), step),
            self.hypers.at(step),
            (step_seed(seed, step) for seed in self.seeds_of),
        )

    def _on_host(self, batch: Batch, step: int) -> Batch:
        """Let the techniques that act before the step change each trial's batch as they would alone."""
        if not acting_on_host(self.techniques):
            return batch
        if self.one_seed:
            return on_host(self.techniques, batch, self.seeds_of[0], step)
        rows = [map_state(lambda t: t[k], batch) for k in range(len(self.seeds_of))]  # noqa: B023 (used at once)
        return stack([on_host(self.techniques, row, seed, step) for row, seed in zip(rows, self.seeds_of, strict=True)])

    def _shaped(self, batch: Batch, step: int) -> Batch:
        """Bring the batches to the shape that is due at this step; the technique reshapes each sample independently."""
        if self.shapes is None or self.one_seed:
            return batch if self.shapes is None else self.shapes.bring(batch, self.progress(step))
        flat = map_state(merge_rows, batch)
        brought = self.shapes.bring(flat, self.progress(step))
        return map_state(lambda t: split_rows(t, len(self.seeds_of)), brought)


class MemoryBatches:
    """Batches of all trials, gathered by one index operation from data in memory."""

    def __init__(self, runs: Sequence[Run], one_seed: bool):
        first = runs[0]
        self.sources = [run.source for run in runs[: 1 if one_seed else None]]
        self.lead = () if one_seed else (len(runs),)
        split: Any = first.data.train
        self.split, self.y, self.device = split, split.y, first.device
        self.normalize = first.data.info.normalize if normalizes_first(first) else None
        self.x = split.x
        size = sum(t.numel() for t in leaves(split.x)) * 4
        if self.normalize is not None and size <= LARGEST_COPY:
            shown = self.normalize(map_state(split.shown, split.x))
            self.x, self.normalize = map_state(split.stored, shown), None  # keep the memory layout of the data
        self.buffers: dict[int, Any] = {}
        self.epoch, self.orders = -1, torch.empty(0)

    def at(self, step: int) -> Batch:
        """The batches of step ``step``: leaves (K, B, ...), or (B, ...) if all trials have one seed."""
        source = self.sources[0]
        epoch, position = divmod(step, source.steps_per_epoch)
        if epoch != self.epoch:
            self.epoch, self.orders = epoch, torch.stack([s.order(epoch) for s in self.sources]).to(self.device)
        index = self.orders[:, position * source.batch_size : (position + 1) * source.batch_size].reshape(-1)
        x, y = self._rows(index), self.y.index_select(0, index)
        x = map_state(self.split.shown, x)
        x = x if self.normalize is None else self.normalize(x)
        return {"x": map_state(self._split, x), "y": self._split(y), "index": self._split(index)}

    def _rows(self, index: Tensor) -> Any:
        """The inputs at the given positions, in a buffer that the next call overwrites."""
        if len(index) not in self.buffers:
            self.buffers[len(index)] = map_state(lambda t: t.new_empty((len(index), *t.shape[1:])), self.x)
        pairs = zip(leaves(self.x), leaves(self.buffers[len(index)]), strict=True)
        return rebuild(self.x, (torch.index_select(t, 0, index, out=buffer) for t, buffer in pairs))

    def _split(self, t: Tensor) -> Tensor:
        return split_rows(t, *self.lead) if self.lead else t


class StreamedBatches:
    """Batches of all trials, read from each trial's own stream and stacked."""

    def __init__(self, runs: Sequence[Run], one_seed: bool):
        self.sources, self.one_seed = [run.source for run in runs[: 1 if one_seed else None]], one_seed
        self.streams: list[Iterator[Batch]] = []
        self.next = -1

    def at(self, step: int) -> Batch:
        """The batches of step ``step``: leaves (K, B, ...), or (B, ...) if all trials have one seed."""
        if step != self.next:
            self.streams = [source.stream(step) for source in self.sources]
        self.next = step + 1
        batches = [next(stream) for stream in self.streams]
        return batches[0] if self.one_seed else stack(batches)


class StackedHypers:
    """The float hyperparameters of K trials at every step.

    Constant floats that all trials share are left out: the traced step takes them from the first trial's objects.

    Args:
        alone: the hyperparameters of each trial.
        device: device of the tensors.
    """

    def __init__(self, alone: Sequence[Hypers], device: torch.device):
        self.alone, self.device = alone, device
        self.chunk = -1
        self.rows: dict[Any, tuple[Tensor, ...]] = {}
        self.driven = sorted({path for one in alone for path in one.drives})
        self.fixed: Hyper = {owner: {} for owner in alone[0].constants}
        for owner, values in alone[0].constants.items():
            for name in values:
                column = [one.constants[owner][name] for one in alone]
                if (owner, name) not in self.driven and len(set(column)) > 1:
                    self.fixed[owner][name] = torch.tensor(column, dtype=torch.float32, device=device)

    @property
    def paths(self) -> set[tuple[str, str]]:
        """Owner and name of all floats that are inputs of the step."""
        return {*self.driven, *((owner, name) for owner, values in self.fixed.items() for name in values)}

    def at(self, step: int) -> Hyper:
        """The argument ``hyper`` of the stacked step: leaves (K,), and 0-d for ``progress``."""
        chunk, row = divmod(step, CHUNK)
        if chunk != self.chunk:
            self.chunk, self.rows = chunk, self._table(chunk)
        hyper: Hyper = {owner: dict(values) for owner, values in self.fixed.items()}
        for path, values in self.rows.items():
            if isinstance(path, tuple):
                hyper[path[0]][path[1]] = values[row]
        hyper["progress"] = self.rows["progress"][row]
        return hyper

    def _table(self, chunk: int) -> dict[Any, tuple[Tensor, ...]]:
        """All driven values of all trials at every step of a chunk; steps beyond the last repeat it."""
        first = self.alone[0]
        steps = [min(i, first.total_steps - 1) for i in range(chunk * CHUNK, (chunk + 1) * CHUNK)]
        table: dict[Any, list[Any]] = {"progress": [first.progress(i) for i in steps]}
        for path in self.driven:
            drives = [one.drives.get(path, _constant(one.constants[path[0]][path[1]])) for one in self.alone]
            table[path] = [[drive(p) for drive in drives] for p in table["progress"]]
        return {
            path: torch.tensor(rows, dtype=torch.float32, device=self.device).unbind() for path, rows in table.items()
        }


def _constant(value: float) -> Drive:
    return lambda progress: value
