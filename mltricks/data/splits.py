"""The parts of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.data.fingerprint import fingerprint
from mltricks.data.info import Info
from mltricks.state import leaves, map_state, merged

UNKNOWN = -1
"""The class of a sample that the data have no label of."""


class Split(Protocol):
    """One part of a data set: it returns batches by sample position, from memory or from worker processes."""

    labels: Tensor | None
    """Class of every sample, (N,) int64 on the CPU, or ``None`` without classes."""

    def __len__(self) -> int: ...

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        """Yield a batch for every tensor of sample positions, (B,) int64 on the CPU, in order."""

    def to(self, device: torch.device) -> Split: ...


class MemorySplit:
    """A split held in memory; a batch is one indexing operation.

    Args:
        x: (N, H, W, C) images, or (N, ...) anything else; or a dict of such tensors, of any dtypes.
        y: (N, ...) targets.
        image: whether 4-d tensors in ``x`` are images. Batches have them as (B, C, H, W), channels-last.
    """

    in_memory = True

    def __init__(self, x: Any, y: Tensor, image: bool = False):
        assert all(len(part) == len(y) for part in leaves(x)), "every sample has a target"
        self.x, self.y, self.image = x, y, image
        self.labels = y.cpu() if y.ndim == 1 and not y.is_floating_point() else None

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> MemorySplit:
        return MemorySplit(map_state(lambda t: t.to(device), self.x), self.y.to(device), self.image)

    def select(self, indices: Tensor) -> MemorySplit:
        """The samples at the given positions, in that order."""
        return MemorySplit(map_state(lambda t: t[indices], self.x), self.y[indices], self.image)

    def joined(self, other: MemorySplit) -> MemorySplit:
        """These samples, then those of another split of the same kind."""
        x = merged(torch.cat, [self.x, other.x])
        return MemorySplit(x, torch.cat([self.y, other.y]), self.image)

    def relabelled(self, labels: Tensor) -> MemorySplit:
        """The same samples with other classes, (N,) int64."""
        return MemorySplit(self.x, labels.to(self.y.device), self.image)

    def shown(self, x: Tensor) -> Tensor:
        """Permute a stored tensor to the axis order of a batch."""
        return x.permute(0, 3, 1, 2) if self.image and x.ndim == 4 else x

    def stored(self, x: Tensor) -> Tensor:
        """The inverse of ``shown``."""
        return x.permute(0, 2, 3, 1) if self.image and x.ndim == 4 else x

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        for index in indices:
            index = index.to(self.y.device, non_blocking=True)
            x = map_state(lambda t: self.shown(t.index_select(0, index)), self.x)  # noqa: B023 (used at once)
            yield {"x": x, "y": self.y.index_select(0, index), "index": index}


@dataclass(frozen=True)
class DataSplits:
    """The splits that a data option returns.

    Attributes:
        train, val, test: labelled samples.
        info: describes the data.
        unlabeled: samples for the unlabelled part of a batch; ``None`` without one. Their labels are hidden: nothing
            is trained on them.
        aside: samples that another run's predictions are to label; ``None`` without such a run.
        notes: what was done to the data, for the user.
    """

    train: Any
    val: Any
    test: Any
    info: Info
    unlabeled: Any = None
    aside: Any = None
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint keeps to recognise the data; computed once."""
        return fingerprint({"training": self.train, "validation": self.val, "test": self.test}, self.info)

    def to(self, device: torch.device) -> DataSplits:
        """Move splits held in memory to the device; streamed splits then send their batches there."""
        parts = {k: getattr(self, k) for k in ("train", "val", "test", "unlabeled", "aside")}
        moved: dict[str, Any] = {k: v if v is None else v.to(device) for k, v in parts.items()}
        return replace(self, info=self.info.to(device), **moved)
