"""What runs with what: jobs that differ only in floats and seeds as stacks, the others each on its own; and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mltricks.launch.job import Job

TRAINING = "mltricks.jobs.train"


@dataclass
class Plan:
    """How jobs are run.

    Attributes:
        units: jobs that are run together, in the order in which they start; a unit of several is a stack.
        notes: why, a line for jobs of a kind.
        slots: where units run, of ``mltricks.launch.leases``; empty: in this process, one after another.
        threads: of torch for the stacks that run in this process; 0: as many as there are.
    """

    units: list[list[Job]]
    notes: list[str] = field(default_factory=list)
    slots: list[Any] = field(default_factory=list)
    threads: int = 0


def plan(jobs: Sequence[Job], fuse: bool | str, workers: int | str, trains: bool) -> Plan:
    """Decide how jobs are run.

    Args:
        jobs: of a sweep.
        fuse: ``hydra.launcher.fuse``.
        workers: ``hydra.launcher.workers``.
        trains: whether the function that runs the jobs is that of mltricks: another cannot be stacked or timed.
    """
    made, seconds = Plan([]), 0.0
    reasons: dict[str, list[Job]] = {}
    for group in alike(jobs) if trains and fuse is not False else [[job] for job in jobs]:
        found = stack_size(group, fuse, workers) if len(group) > 1 else ONE
        units = [group[i : i + found.size] for i in range(0, len(group), found.size)]
        made.units += units
        seconds = max(seconds, found.seconds * found.size)
        made.threads = max(made.threads, found.threads)
        if len(group) > 1:
            how = f"in stacks of up to {found.size}" if found.size > 1 else "one by one"
            reasons.setdefault(f"{how}, {found.why}", []).extend(group)
    made.notes = [f"{named(sorted(group, key=lambda job: job.num))}: {why}" for why, group in reasons.items()]
    made.units.sort(key=lambda unit: unit[0].num)
    made.slots = slots_for(made.units, workers, trains, seconds)
    return made


def slots_for(units: Sequence[Sequence[Job]], workers: int | str, trains: bool, seconds: float) -> list[Any]:
    """Where units run; without slots, in this process.

    Args:
        units: all of them.
        workers: ``hydra.launcher.workers``.
        trains: whether they can be timed.
        seconds: that a unit is expected to take; 0 where that was not measured.

    Raises:
        ValueError: ``workers`` is neither ``auto`` nor a number >= 1.
    """
    if workers in ("auto", 1) and (workers == 1 or not trains or len(units) < 2):
        return []
    from mltricks.launch.leases import choose_workers

    first = units[0][0]
    if workers == "auto" and not seconds:
        seconds = seconds_of(first)
    return choose_workers(workers, len(units), str(first.cfg["device"]), seconds)


def seconds_of(job: Job) -> float:
    """How long a job is expected to take, s; 0 for one that does not train, or is refused when it is run."""
    if job.cfg["job"]["_target_"] != TRAINING:
        return 0.0
    from mltricks.launch.probe import expected_s

    try:
        return expected_s(job.cfg)
    except Exception:  # whatever it is, the job itself meets it again and says so
        return 0.0


def alike(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups of those that could be stacked, as they differ only in floats and seeds."""
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        groups.setdefault(kind(job), []).append(job)
    return list(groups.values())


def kind(job: Job) -> Any:
    """What jobs must share to be stacked; of a job that cannot be, what no other shares."""
    from mltricks.stack.run import structure

    cfg = job.cfg
    stacks = cfg["job"]["_target_"] == TRAINING and not cfg["show"] and cfg["resume"] is None
    if not stacks or job.hydra.changes_folder:
        return job.num
    shared = structure(cfg)
    return tuple(sorted((key, repr(value)) for key, value in shared.items())), job.hydra.variables


@dataclass(frozen=True)
class Found:
    """How jobs that could be stacked are run.

    Attributes:
        size: how many at most go into one stack; 1: none is stacked.
        why: in words.
        seconds: that a job is expected to take so; 0 where that was not measured.
        threads: of torch that it is fastest with; 0: as many as there are.
    """

    size: int
    why: str = ""
    seconds: float = 0.0
    threads: int = 0


ONE = Found(1)
_PROBED: dict[Any, Any] = {}
"""What was measured in this process: a study asks for jobs of the same kind again and again."""


def stack_size(group: Sequence[Job], fuse: bool | str, workers: int | str) -> Found:
    """How these jobs, which differ only in floats and seeds, are run.

    Raises:
        ValueError: ``fuse=true`` asks for what cannot be.
    """
    from mltricks.launch.leases import choose_workers
    from mltricks.launch.probe import evenly, fusable, probe

    cfgs = [job.cfg for job in group]
    if fuse is True:
        if why := fusable(cfgs):
            raise ValueError(f"hydra.launcher.fuse=true: {named(group)} cannot be stacked: {why}. Type fuse=auto.")
        return Found(len(group), "as hydra.launcher.fuse=true")
    key = (kind(group[0]), len(group))
    if key not in _PROBED:
        try:
            _PROBED[key] = probe(cfgs)
        except ValueError as error:  # a configuration that is refused: its own job says why
            return Found(1, f"as they could not be measured: {error}")
    found = _PROBED[key]
    if not found.fuse:
        return Found(1, found.reason, found.alone_s * found.steps)
    seconds = found.stacked_s * found.steps
    if any(job.trial for job in group):  # those that may be given up are judged together, and soon are few
        return Found(found.stack_size, found.reason, seconds, found.threads)
    slots = choose_workers(workers, len(group), str(cfgs[0]["device"]), seconds)
    size = min(found.stack_size, evenly(len(group), -(-len(group) // max(len(slots), 1))))
    return Found(size, found.reason, seconds, found.threads)


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
