"""The newest training metrics for the terminal, read a few times a second and without waiting for the device."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import torch
from torch import Tensor

INTERVAL_S = 0.25
"""Shortest time between two readings, s."""
AVERAGED = 4
"""Readings in the mean that is shown: single batches are noisy."""


class Glimpse:
    """Means of the latest readings of the metrics.

    On CUDA a reading is a copy into pinned memory that the device makes when it gets there. An event marks its end, and
    the value is taken at a later update, once the event has come: the loop never waits. Other devices are read at once.

    Args:
        names: the metrics to read, where a step has them.
    """

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self.latest: dict[str, deque[float]] = {}
        self.pending: tuple[dict[str, Tensor], Any] | None = None
        self.due = 0.0

    def offer(self, metrics: dict[str, Tensor]) -> None:
        """Called after every update with its metrics, each 0-d; most calls only look at the clock."""
        now = time.perf_counter()
        if now < self.due:
            return
        if self.pending is not None:
            copies, arrived = self.pending
            if not arrived.query():  # the device is still behind: look again after the next update
                return
            self.take(copies)
            self.pending = None
        self.due = now + INTERVAL_S if self.latest else now  # the first value as soon as there is one
        some = {name: metrics[name] for name in self.names if name in metrics}
        if not some or not next(iter(some.values())).is_cuda:
            self.due = now + INTERVAL_S
            self.take(some)
            return
        copies = {name: value.detach().to("cpu", non_blocking=True) for name, value in some.items()}
        arrived = torch.cuda.Event()
        arrived.record()
        self.pending = copies, arrived

    def take(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            self.latest.setdefault(name, deque(maxlen=AVERAGED)).append(float(value))

    def means(self) -> dict[str, float]:
        """The mean of the latest readings of every metric; empty before the first."""
        return {name: sum(values) / len(values) for name, values in list(self.latest.items())}
