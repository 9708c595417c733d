"""Read the measured effects of options: a JSON file for each task in ``tasks``, written by ``benchmarks/evidence.py``.

A task is a data set with a model and a plain baseline. A row compares the baseline with the option and without it: the
mean paired difference on the test split, its 95 % interval, and the ratio of the times of a step.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PLACES = {"accuracy": (100, 2), "f1": (100, 2)}
"""Of a metric that is a share: the factor to points of a hundred, and decimals."""


@dataclass(frozen=True)
class Row:
    """An option's effect in one task; numbers are in units of the metric, with the option minus without it.

    Attributes:
        option: as ``technique=mixup``.
        control: the value that the baseline has instead; empty where it has none.
        beside: overrides that both sides have because the option needs them.
        n, lost: number of paired seeds that both sides finished, and of those that one did not.
        mean: of the runs with the option; ``None`` without any.
        difference: mean paired difference; ``None`` without a pair.
        interval: its ends; ``None`` with fewer than two pairs.
        p_value: of the paired t-test, of this comparison alone; ``None`` with fewer than two pairs.
        verdict: ``helps``, ``hurts``, ``no evidence`` or ``too few pairs``, corrected for all rows of the task.
        cost: time of a step with the option divided by that without it, CPU time, median; ``None`` if not measured.
        tuned: the settings tuned for the option's side.
    """

    option: str
    control: str
    beside: list[str]
    n: int
    lost: int
    mean: float | None
    difference: float | None
    interval: list[float] | None
    p_value: float | None
    verdict: str
    cost: float | None
    tuned: list[str]


@dataclass(frozen=True)
class Task:
    """The rows of a task, and how they were measured.

    Attributes:
        name: of the file.
        title: data and model, in a few words.
        baseline: the overrides of the baseline.
        metric: of the differences, as ``test/accuracy``.
        baseline_mean: of the baseline's runs.
        rows: the effects.
        unmeasured: why an option has no row, by option.
        command: what measures all of it again.
        about: commit, date, versions, machine, seeds.
    """

    name: str
    title: str
    baseline: list[str]
    metric: str
    baseline_mean: float | None
    rows: list[Row]
    unmeasured: dict[str, str]
    command: str
    about: dict[str, Any]


@functools.cache
def tasks() -> tuple[Task, ...]:
    """All tasks, in the order of their files."""
    return tuple(read_task(path) for path in sorted((FOLDER / "tasks").glob("*.json")))


def read_task(path: Path) -> Task:
    content = json.loads(path.read_text(encoding="utf-8"))
    return Task(**{**content, "name": path.stem, "rows": [Row(**row) for row in content["rows"]]})


def effects_of(option: str) -> list[str]:
    """A line for every task in which an option was measured, or the reason why it was not; empty without any."""
    lines = []
    for task in tasks():
        row = next((row for row in task.rows if row.option == option), None)
        if row is not None:
            lines.append(f"{task.title}: {effect_words(row, task.metric)}")
        elif option in task.unmeasured:
            lines.append(f"{task.title}: not measured; {task.unmeasured[option]}")
    return lines


def effect_words(row: Row, metric: str) -> str:
    """Verdict, difference with interval, cost, and what the option was compared with.

    >>> row = Row("technique=a", "", [], 5, 0, 0.9, 0.012, [0.004, 0.02], 0.01, "helps", 1.5, [])
    >>> effect_words(row, "test/accuracy")
    'helps, accuracy +1.20 points (+0.40 to +2.00), n=5, step 1.50 times as long'
    """
    if row.difference is None:
        return f"no pair of runs finished ({row.lost} lost)"
    low, high = row.interval or (0.0, 0.0)
    chance = " among all rows of the task" if row.verdict == "no evidence" and low * high > 0 else ""
    parts = [row.verdict + chance, f"{name_of(metric)} {difference_words(row, metric)}", f"n={row.n}"]
    parts += [f"{row.lost} lost"] if row.lost else []
    parts += [f"step {row.cost:.2f} times as long"] if row.cost is not None else []
    parts += [f"instead of {row.control}"] if row.control else []
    parts += [f"both with {' '.join(row.beside)}"] if row.beside else []
    return ", ".join(parts)


def difference_words(row: Row, metric: str) -> str:
    """The difference with its interval, in points of a hundred for a share."""
    factor, places = PLACES.get(name_of(metric), (1, 4))
    unit = " points" if factor == 100 else ""
    between = ""
    if row.interval is not None:
        low, high = (f"{factor * end:+.{places}f}" for end in row.interval)
        between = f" ({low} to {high})"
    return f"{factor * (row.difference or 0.0):+.{places}f}{unit}{between}"


def name_of(metric: str) -> str:
    """The metric without its split."""
    return metric.rpartition("/")[2]
