"""What runs with what: jobs that differ only in floats and seeds as stacks, the others each on its own; and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mltricks.sweep.job import Job

TRAINING = "mltricks.jobs.train"


@dataclass
class Plan:
    """How jobs are run.

    Attributes:
        units: jobs that are run together, in the order in which they start; a unit of several is a stack.
        notes: why, a line for jobs of a kind.
        slots: where units run, of ``mltricks.sweep.leases``; empty: in this process, one after another.
    """

    units: list[list[Job]]
    notes: list[str] = field(default_factory=list)
    slots: list[Any] = field(default_factory=list)


def plan(jobs: Sequence[Job], fuse: bool | str, workers: int | str, trains: bool) -> Plan:
    """Decide how jobs are run.

    Args:
        jobs: of a sweep.
        fuse: ``hydra.launcher.fuse``.
        workers: ``hydra.launcher.workers``.
        trains: whether the function that runs the jobs is that of mltricks: another cannot be stacked.
    """
    made = Plan([])
    for group in alike(jobs) if trains and fuse is not False else [[job] for job in jobs]:
        if len(group) == 1:
            made.units.append(group)
            continue
        size, why = stack_size(group, fuse)
        made.units += [group[i : i + size] for i in range(0, len(group), size)]
        made.notes.append(f"{named(group)}: {'in stacks of up to ' + str(size) if size > 1 else 'one by one'}, {why}")
    made.units.sort(key=lambda unit: unit[0].num)
    made.slots = slots_for(made.units, workers, trains)
    return made


def slots_for(units: Sequence[Sequence[Job]], workers: int | str, trains: bool) -> list[Any]:
    """Where units run; without slots, in this process.

    Raises:
        ValueError: ``workers`` is neither ``auto`` nor a number >= 1.
    """
    if workers in ("auto", 1) and (workers == 1 or not trains or len(units) < 2):
        return []
    from mltricks.sweep.leases import choose_workers

    return choose_workers(workers, len(units), str(units[0][0].cfg["device"]), 0.0)


def alike(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups of those that could be stacked, as they differ only in floats and seeds."""
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        groups.setdefault(kind(job), []).append(job)
    return list(groups.values())


def kind(job: Job) -> Any:
    """What jobs must share to be stacked; of a job that cannot be, what no other shares."""
    from mltricks.stack import structure

    cfg = job.cfg
    stacks = cfg["job"]["_target_"] == TRAINING and not cfg["show"] and cfg["resume"] is None
    if not stacks or job.hydra.changes_folder:
        return job.num
    shared = structure(cfg)
    return tuple(sorted((key, repr(value)) for key, value in shared.items())), job.hydra.variables


def stack_size(group: Sequence[Job], fuse: bool | str) -> tuple[int, str]:
    """How many of these jobs at most go into one stack, and why; 1: none is stacked."""
    if fuse is True:
        return len(group), "as hydra.launcher.fuse=true"
    return 1, "as stacking was not measured"


def named(group: Sequence[Job]) -> str:
    """Jobs by their numbers.

    >>> named([Job(n, [], {}, None, None) for n in (0, 1, 2, 5)])
    'jobs 0 to 2 and 5'
    """
    runs: list[list[int]] = []
    for job in group:
        if runs and runs[-1][-1] + 1 == job.num:
            runs[-1][1:] = [job.num]
        else:
            runs.append([job.num])
    words = [" to ".join(map(str, run)) for run in runs]
    return (
        f"job{'s' if len(group) > 1 else ''} {' and '.join([', '.join(words[:-1]), words[-1]] if words[1:] else words)}"
    )
