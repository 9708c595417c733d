"""The time that a sweep still takes, from the times measured so far: a pure function of what has run."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Running:
    """A unit that runs: one job, or several as a stack.

    Attributes:
        size: jobs in it.
        elapsed: time since its start, s.
        share: the part that is done, in [0, 1]; 0 if that is not known.
    """

    size: int
    elapsed: float
    share: float = 0.0

    def left(self, each: float) -> float:
        """Time that the unit still takes, s, if a job takes ``each`` seconds on average."""
        whole = self.elapsed / self.share if self.share > 0 else each * self.size
        return max(whole - self.elapsed, 0.0)


def seconds_left(
    ended: Sequence[tuple[int, float]], running: Sequence[Running], waiting: Sequence[int], workers: int
) -> float | None:
    """The time until the last unit ends, s; ``None`` while nothing has been measured.

    Args:
        ended: size and time of every unit that has ended, s.
        running: the units that run.
        waiting: sizes of the units that wait, in their order; each is taken by the worker that is free first.
        workers: units that run at a time.

    >>> seconds_left([(1, 10.0), (1, 10.0)], [], [1, 1, 1, 1], workers=2)
    20.0
    """
    measured = [*ended, *((unit.size, unit.elapsed / unit.share) for unit in running if unit.share > 0)]
    if not measured:
        return None
    each = sum(seconds for _, seconds in measured) / sum(size for size, _ in measured)
    ends = [unit.left(each) for unit in running]
    ends += [0.0] * (workers - len(ends))
    heapq.heapify(ends)
    for size in waiting:
        heapq.heappush(ends, heapq.heappop(ends) + size * each)
    return max(ends)
