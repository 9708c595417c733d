"""The count of a sweep's jobs: how they ended, the best so far, and how long they took."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from mltricks.config.names import without_brackets
from mltricks.observers.formats import number
from mltricks.summary import Summary

ENDS = {"stopped_early": "completed", "interrupted": "interrupted", "pruned": "pruned", "failed": "failed"}
"""The word for a status in the count; all others are their own."""
LONG = re.compile(r"(?<![\w.])-?\d*\.\d{5,}(?:e[+-]?\d+)?(?!\w)|(?<![\w.])-?\d\.\d{5,}e[+-]?\d+(?!\w)")


@dataclass
class Best:
    """The best job so far.

    Attributes:
        num: its number.
        name: the objective.
        value: its value.
        overrides: the overrides that only it has, shortened.
    """

    num: int
    name: str
    value: float
    overrides: str

    def words(self) -> str:
        return f"best {self.name} {number(self.value)}: #{self.num} {self.overrides}".rstrip()


@dataclass
class Tally:
    """The jobs of one sweep; launch after launch adds to it.

    Attributes:
        total: jobs of the whole sweep; ``None``: those of the current launch are all that is known.
        ranked: whether the jobs' objectives can be compared.
        shared: overrides that all jobs have, which no line repeats.
        counts: jobs that have ended, by how.
        ended: size and time of every unit that has ended, s.
        best: the best job so far.
        notes: whether the notes on how jobs run together have been printed.
        said: the notes of runs that have been printed, without numbers.
    """

    total: int | None = None
    ranked: bool = True
    shared: frozenset[str] = frozenset()
    counts: Counter[str] = field(default_factory=Counter)
    ended: list[tuple[int, float]] = field(default_factory=list)
    best: Best | None = None
    notes: bool = False
    said: set[str] = field(default_factory=set)

    def add(self, num: int, summary: Summary, overrides: Iterable[str]) -> bool:
        """Count a job that has ended; return whether it is the best so far."""
        self.counts[ENDS.get(summary.status, summary.status)] += 1
        value, direction = summary.objective.get("value"), summary.objective.get("direction")
        if not self.ranked or direction is None or summary.status not in ("completed", "stopped_early"):
            return False
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        sign = 1 if direction == "maximize" else -1
        if self.best is not None and sign * (value - self.best.value) <= 0:
            return False
        self.best = Best(num, summary.objective["name"], value, " ".join(map(brief, overrides)))
        return True

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return sum(self.counts.values())

    def words(self) -> list[str]:
        """How many jobs ended otherwise than completed."""
        return [f"{count} {how}" for how, count in self.counts.items() if how != "completed"]


TALLY: ContextVar[Tally | None] = ContextVar("TALLY", default=None)
SEARCHED: ContextVar[frozenset[str]] = ContextVar("SEARCHED", default=frozenset())
"""Keys that every line shows, even if all jobs of a launch happen to have the same value."""


@contextmanager
def counting(tally: Tally) -> Iterator[None]:
    """A context in which launched jobs are added to this count."""
    token = TALLY.set(tally)
    try:
        yield
    finally:
        TALLY.reset(token)


@contextmanager
def showing(keys: Iterable[str]) -> Iterator[None]:
    """A context in which the lines of launched jobs always show these keys."""
    token = SEARCHED.set(frozenset(keys))
    try:
        yield
    finally:
        SEARCHED.reset(token)


def brief(override: str) -> str:
    """An override for the eye: four significant digits, lists of names without brackets.

    >>> brief("optim.lr=0.0012345678901234567"), brief("technique=[mixup,ema]"), brief("model.name=v1.0")
    ('optim.lr=0.001235', 'technique=mixup+ema', 'model.name=v1.0')
    """
    return LONG.sub(lambda found: f"{float(found[0]):.4g}", without_brackets(override))


def shared_overrides(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The overrides that all of several jobs share, except for searched keys: no line needs to repeat them."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return {text for text in common if text.partition("=")[0].lstrip("+") not in SEARCHED.get()}


def trained_share(folder: Path, epochs: int, max_steps: int | None) -> float:
    """The part of a run that is done, by its last validation in ``metrics.jsonl``; 0 before the first.

    Args:
        folder: its output folder.
        epochs, max_steps: of its configuration.
    """
    import json

    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            lines = file.read().splitlines()
    except OSError:
        return 0.0
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:  # cut at the start, or still being written
            continue
        if record.get("split") == "val":
            return min(1.0, max(record["epoch"] / epochs, record["step"] / max_steps if max_steps else 0.0))
    return 0.0
