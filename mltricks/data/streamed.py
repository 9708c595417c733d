"""Streamed splits: worker processes read the samples from files, batch by batch in a given order."""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mltricks.batch import Batch
from mltricks.state import map_state, merged


class Reader(Dataset):  # type: ignore[type-arg]
    """Reads whole batches of files.

    Args:
        paths: of all samples.
        labels: their classes, (N,) int64.
        decode: maps a path to a tensor or a dict of tensors, with the same shapes for all paths; raises ``ValueError``
            for a damaged file.
    """

    def __init__(self, paths: list[str], labels: Tensor, decode: Callable[[str], Any]):
        self.paths, self.labels, self.decode = paths, labels, decode

    def __getitem__(self, positions: list[int]) -> Batch | str:
        """A batch, or an error message.

        A worker returns the message as a string, because an exception would carry the worker's traceback.
        """
        try:
            x = merged(torch.stack, [self.decode(self.paths[i]) for i in positions])
            return {"x": x, "y": self.labels[positions]}
        except ValueError as error:
            return str(error)


class Order:
    """The sampler of a loader: its keys are replaced at every use, so that the loader and its workers can be reused."""

    def __init__(self) -> None:
        self.keys: Iterable[list[int]] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.keys)


class Workers:
    """Worker processes of one reader; they stay alive between streams.

    A stream takes an idle loader or starts a new one, so that streams can run concurrently (validation during
    training).

    Args:
        reader: reads the batches.
        num_workers: processes per stream; 0 reads in this process.
    """

    def __init__(self, reader: Reader, num_workers: int):
        self.reader, self.num_workers = reader, num_workers
        self.idle: list[tuple[DataLoader[Any], Order]] = []
        # the loaders must outlive this object: collected together with it, their pipes could be closed first,
        # and the shutdown would wait for a worker that gets no message
        self.loaders: list[DataLoader[Any]] = []
        weakref.finalize(self, self.loaders.clear)
        self.closing = multiprocessing.RawValue("b", 0)
        atexit.register(setattr, self.closing, "value", 1)

    def stream(self, keys: Iterable[list[int]]) -> Iterator[Batch]:
        """Yield a batch for every list of positions, in order.

        Raises:
            ValueError: a file cannot be decoded.
        """
        loader, order = self.idle.pop() if self.idle else self._start()
        order.keys = keys
        try:
            for batch in loader:
                if isinstance(batch, str):
                    raise ValueError(batch)
                yield batch
        finally:
            order.keys = ()
            self.idle.append((loader, order))

    def _start(self) -> tuple[DataLoader[Any], Order]:
        order = Order()
        loader = DataLoader(
            self.reader,
            batch_size=None,  # a key is a whole batch
            sampler=order,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_as_read,
            worker_init_fn=functools.partial(_leave_signals_to_the_run, self.closing),
            generator=torch.Generator(),  # otherwise the loader would draw from the run's random state
        )
        self.loaders.append(loader)
        return loader, order


def _as_read(batch: Any) -> Any:
    return batch


def _leave_signals_to_the_run(closing: Any, _: int) -> None:
    """Ignore signals in workers: they reach the whole process group, but workers must serve until the run has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if closing.value else None)


class StreamedSplit:
    """A split of a reader's samples.

    Args:
        workers: read the files.
        positions: of this split's samples among the reader's, (N,) int64.
        device: of the batches.
        labels: classes in place of the reader's, (N,) int64 on the CPU.
    """

    def __init__(
        self,
        workers: Workers,
        positions: Tensor,
        device: torch.device | str = "cpu",
        labels: Tensor | None = None,
    ):
        self.workers, self.positions, self.device = workers, positions, torch.device(device)
        self.labels = workers.reader.labels[positions] if labels is None else labels

    def __len__(self) -> int:
        return len(self.positions)

    def to(self, device: torch.device) -> StreamedSplit:
        """The same samples, with batches on the device."""
        return StreamedSplit(self.workers, self.positions, device, self.labels)

    def select(self, indices: Tensor) -> StreamedSplit:
        """The samples at the given positions, in that order."""
        return StreamedSplit(self.workers, self.positions[indices], self.device, self.labels[indices])

    def joined(self, other: StreamedSplit) -> StreamedSplit:
        """These samples, then those of another split of the same reader."""
        labels = torch.cat([self.labels, other.labels])
        return StreamedSplit(self.workers, torch.cat([self.positions, other.positions]), self.device, labels)

    def relabelled(self, labels: Tensor) -> StreamedSplit:
        """The same samples with other classes, (N,) int64."""
        return StreamedSplit(self.workers, self.positions, self.device, labels.cpu())

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        """Yield batches with images (B, C, H, W) in channels-last storage."""
        ahead, indices = tee(indices)  # workers read ahead, so queue the positions
        keys = (self.positions[index].tolist() for index in ahead)
        for batch, index in zip(self.workers.stream(keys), indices, strict=True):
            batch["index"], batch["y"] = index, self.labels[index]
            moved = map_state(lambda t: t.to(self.device, non_blocking=True), batch)
            yield {**moved, "x": map_state(lambda t: t.permute(0, 3, 1, 2) if t.ndim == 4 else t, moved["x"])}
