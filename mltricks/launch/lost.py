"""What is said of jobs whose worker ended before they did: in what comes back to the sweeper, and in their folders."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from mltricks.launch.job import Job
from mltricks.launch.worker import WorkerError
from mltricks.process.interrupt import EXIT_STATUS
from mltricks.summary import Summary, read_summary

KILL = 9
"""SIGKILL, which has no name on Windows."""
STOPPED = {code: number for number, code in EXIT_STATUS.items()}
"""The signal behind an exit status."""


def lost(unit: Sequence[Job], status: int | None, said: str) -> list[Any]:
    """The returns of a unit whose worker ended without an answer: failed, with a message that says how.

    The folder of each gets a ``summary.json`` that says the same, unless the job has written its own before the end. A
    job that was killed from outside is ``interrupted``: the same command again runs it again. One that crashed has
    ``failed``.

    Args:
        unit: its jobs.
        status: exit status of the worker; below zero: the signal that ended it.
        said: the last line it wrote to standard error.
    """
    from hydra.core.utils import JobReturn, JobStatus

    message, number = epitaph(status, said), outside(status)
    returns = []
    for job in unit:
        known = read_summary(job.folder / "summary.json")
        if known is None or (known.status == "interrupted" and status not in STOPPED):
            how = "failed" if number is None else "interrupted"
            record = known or Summary(how, overrides=list(job.overrides), folder=str(job.folder))
            record.status, record.error, record.signal = how, message, number
            job.folder.mkdir(parents=True, exist_ok=True)
            record.write(job.folder / "summary.json")
        job_return = JobReturn(overrides=list(job.overrides), working_dir=str(job.folder), status=JobStatus.FAILED)
        job_return.return_value = WorkerError(message)
        returns.append(job_return)
    return returns


def outside(status: int | None) -> int | None:
    """The signal from outside that ended a worker: SIGTERM, Ctrl-C or SIGKILL; ``None`` where the job itself did."""
    number = STOPPED.get(status, -status) if status is not None else None
    return number if number in (*EXIT_STATUS, KILL) else None


def epitaph(status: int | None, said: str = "") -> str:
    """How a worker ended, in words.

    >>> epitaph(-11)
    'the worker crashed with SIGSEGV'
    """
    if status in STOPPED:
        return f"the worker was stopped by {signal.Signals(STOPPED[status]).name}; the same command again goes on"
    if status is None or status >= 0:
        how = f"the worker ended with exit status {status} in the midst of the job"
    elif outside(status) is None:
        how = f"the worker crashed with {signal.Signals(-status).name}"
    else:
        how = f"the worker was killed by {signal.Signals(-status).name}"
        how += ", as the system does when memory runs out" if -status == KILL else ""
    return f"{how}; its last words: {said}" if said else how
