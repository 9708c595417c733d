"""The plan of a launch: which jobs train together as a stack, and in which process each stack or job runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mltricks.config.stages import stage_names
from mltricks.launch.job import Job

TRAINING = "mltricks.jobs.train"


@dataclass
class Plan:
    """The plan of a launch.

    Attributes:
        units: groups of jobs that run together, in starting order; a unit of several jobs is a stack.
        notes: the reasons, one line per group of similar jobs.
        slots: slots of worker processes; empty: units run in this process, one after another.
        threads: torch threads for stacks in this process; 0: all.
    """

    units: list[list[Job]]
    notes: list[str] = field(default_factory=list)
    slots: list[Any] = field(default_factory=list)
    threads: int = 0


def plan(jobs: Sequence[Job], fuse: bool | str, workers: int | str, trains: bool) -> Plan:
    """Plan how to run jobs.

    Args:
        jobs: the jobs of a launch.
        fuse: ``hydra.launcher.fuse``.
        workers: ``hydra.launcher.workers``.
        trains: whether mltricks' own task runs the jobs; any other task cannot be stacked or timed.
    """
    made, seconds = Plan([]), 0.0
    reasons: dict[str, list[Job]] = {}
    for group in alike(jobs) if trains and fuse is not False else [[job] for job in jobs]:
        found = stack_size(group, fuse, workers) if len(group) > 1 else ONE
        units = [group[i : i + found.size] for i in range(0, len(group), found.size)]
        made.units += units
        seconds = max(seconds, found.seconds * found.size)
        made.threads = max(made.threads, found.threads)
        if len(group) > 1 and found.why:
            reasons.setdefault(found.why, []).extend(group)
    made.notes = [f"{named(sorted(group, key=lambda job: job.num))} {why}" for why, group in reasons.items()]
    made.units.sort(key=lambda unit: unit[0].num)
    made.slots = slots_for(made.units, workers, trains, seconds)
    return made


def slots_for(units: Sequence[Sequence[Job]], workers: int | str, trains: bool, seconds: float) -> list[Any]:
    """Choose the slots in which units run; none: run them in this process.

    Args:
        units: all units.
        workers: ``hydra.launcher.workers``.
        trains: whether the jobs can be timed.
        seconds: expected time of a unit; 0 if it was not measured.

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
    """Expected time of a job, s; 0 if it does not train, has stages, or cannot be built."""
    if job.cfg["job"]["_target_"] != TRAINING or stage_names(job.cfg["stages"]):
        return 0.0
    from mltricks.launch.probe import expected_s

    try:
        return expected_s(job.cfg)
    except Exception:  # the job will meet the same error, and reports it
        return 0.0


def alike(jobs: Sequence[Job]) -> list[list[Job]]:
    """Group the jobs that could be stacked: those that differ only in floats and seeds."""
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        groups.setdefault(kind(job), []).append(job)
    return list(groups.values())


def kind(job: Job) -> Any:
    """A key that is equal for jobs that can be stacked, and unique for a job that cannot."""
    from mltricks.stack.structure import structure

    cfg = job.cfg
    stacks = cfg["job"]["_target_"] == TRAINING and not cfg["show"] and cfg["resume"] is None
    stacks = stacks and not stage_names(cfg["stages"])
    if not stacks or job.hydra.changes_folder:
        return job.num
    shared = structure(cfg)
    return tuple(sorted((key, repr(value)) for key, value in shared.items())), job.hydra.variables


@dataclass(frozen=True)
class Found:
    """The decision for a group of jobs that could be stacked.

    Attributes:
        size: maximum number of jobs in a stack; 1: do not stack.
        why: what the user is told about it; empty: nothing.
        seconds: expected time per job; 0 if it was not measured.
        threads: torch threads with which a stack is fastest; 0: all.
    """

    size: int
    why: str = ""
    seconds: float = 0.0
    threads: int = 0


ONE = Found(1)
_PROBED: dict[Any, Any] = {}
"""Measurements made in this process. A study launches similar jobs again and again."""


def stack_size(group: Sequence[Job], fuse: bool | str, workers: int | str) -> Found:
    """Decide whether to stack these jobs, which differ only in floats and seeds, and in what size.

    Raises:
        ValueError: ``fuse=true``, and the jobs cannot be stacked.
    """
    from mltricks.launch.leases import choose_workers
    from mltricks.launch.probe import evenly, fusable, probe
    from mltricks.schedules.drives import follows_score

    cfgs = [job.cfg for job in group]
    if fuse is True:
        if why := fusable(cfgs):
            raise ValueError(f"fuse=true: {named(group)} cannot be stacked: {why}. Type fuse=auto.")
        return Found(len(group), f"train together, in one stack of {len(group)}")
    if any(follows_score(cfg) for cfg in cfgs):
        return Found(1, f"run one by one: {fusable(cfgs)}")
    key = (kind(group[0]), len(group))
    if key not in _PROBED:
        try:
            _PROBED[key] = probe(cfgs)
        except ValueError as error:  # an invalid configuration: its own job will report the error
            return Found(1, f"run one by one, as they could not be measured: {error}")
    found = _PROBED[key]
    if not found.fuse:
        return Found(1, "", found.alone_s * found.steps)
    seconds, size = found.stacked_s * found.steps, found.stack_size
    if not any(job.trial for job in group):  # prunable trials stay together: they are judged so, and few reach the end
        slots = choose_workers(workers, len(group), str(cfgs[0]["device"]), seconds)
        size = min(size, evenly(len(group), -(-len(group) // max(len(slots), 1))))
    gain = f"{found.alone_s / found.stacked_s:.1f} times as fast as one by one"
    return Found(size, f"train in stacks of up to {size}, {gain}", seconds, found.threads)


def named(group: Sequence[Job]) -> str:
    """Name jobs by their numbers.

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
