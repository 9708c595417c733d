"""The parts of a data set, and what the rest of the program needs to know about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from mltricks.batch import Batch


@dataclass(frozen=True)
class Info:
    """What a data set is.

    Attributes:
        kind: ``image``, ``tokens`` or ``vector``: what a sample of ``x`` is.
        target: ``classes``, ``tokens`` or ``values``: what ``y`` is.
        in_shape: shape of one ``x``: (C, H, W), (L,) or (D,).
        num_outputs: width of the output a model needs: classes, vocabulary or target columns.
        classes: names of the classes, or the characters of the vocabulary; empty for values.
        mean, std: training statistics in raw units, broadcastable to ``in_shape``; ``None`` for tokens.
    """

    kind: str
    target: str
    in_shape: tuple[int, ...]
    num_outputs: int
    classes: tuple[str, ...] = ()
    mean: Tensor | None = None
    std: Tensor | None = None

    def to(self, device: torch.device) -> Info:
        if self.mean is None or self.std is None:
            return self
        return replace(self, mean=self.mean.to(device), std=self.std.to(device))

    def normalize(self, x: Tensor) -> Tensor:
        """Raw inputs to zero mean and unit variance; tokens and float images, which are normalised already, pass."""
        if self.mean is None or self.std is None:
            return x
        if self.kind != "image":
            return (x.float() - self.mean) * (1.0 / self.std)
        if x.is_floating_point():
            return x
        mean, scale = self.rows if x.shape[-1] == self.in_shape[-1] else self.rows_of(x.shape[-1])
        return x.float().sub_(mean).mul_(scale)  # in the one new tensor: fresh memory costs more than the arithmetic

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Mean and reciprocal standard deviation for images of the usual width: made once, as every step needs them."""
        return self.rows_of(self.in_shape[-1])

    def rows_of(self, width: int) -> tuple[Tensor, Tensor]:
        assert self.mean is not None, "images have statistics"
        assert self.std is not None, "images have statistics"
        return as_row(self.mean, width), as_row(1.0 / self.std, width)


def as_row(v: Tensor, width: int) -> Tensor:
    """(C, 1, 1) to (C, 1, width) in channels-last storage.

    Against channels-last images the arithmetic then runs along whole rows; against (C, 1, 1) its inner loop would be
    the C channels of one pixel, which takes ten times as long on a CPU.
    """
    return v if v.shape[-1] == width else v.permute(1, 2, 0).repeat(1, width, 1).permute(2, 0, 1)


class Split(Protocol):
    """One part of a data set: batches by index, from memory or from worker processes."""

    labels: Tensor | None
    """Class of every sample, (N,) int64 on the CPU, or ``None`` where there are no classes."""

    def __len__(self) -> int: ...

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        """A batch for every tensor of sample positions, (B,) int64 on the CPU, in order."""

    def to(self, device: torch.device) -> Split: ...


class MemorySplit:
    """A split that lies in memory as two tensors; a batch is an index.

    Args:
        x: (N, H, W, C) uint8 images, or (N, ...) anything else. Images come out as (B, C, H, W), channels-last.
        y: (N, ...) targets.
        image: whether ``x`` holds images.
    """

    def __init__(self, x: Tensor, y: Tensor, image: bool = False):
        assert len(x) == len(y), "every sample has a target"
        self.x, self.y, self.image = x, y, image
        self.labels = y.cpu() if y.ndim == 1 and not y.is_floating_point() else None

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> MemorySplit:
        return MemorySplit(self.x.to(device), self.y.to(device), self.image)

    def select(self, indices: Tensor) -> MemorySplit:
        """The samples at the given positions, in that order."""
        return MemorySplit(self.x[indices], self.y[indices], self.image)

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        for index in indices:
            index = index.to(self.x.device, non_blocking=True)
            x = self.x.index_select(0, index)
            x = x.permute(0, 3, 1, 2) if self.image else x
            yield {"x": x, "y": self.y.index_select(0, index), "index": index}


@dataclass(frozen=True)
class DataSplits:
    """Everything a data option gives. ``unlabeled``: all training samples, for their ``x`` alone, or ``None``."""

    train: Any
    val: Any
    test: Any
    info: Info
    unlabeled: Any = None

    def to(self, device: torch.device) -> DataSplits:
        """Move everything that lies in memory to the device."""
        parts = {k: getattr(self, k) for k in ("train", "val", "test", "unlabeled")}
        moved = {k: v if v is None else v.to(device) for k, v in parts.items()}
        return replace(self, info=self.info.to(device), **moved)
