"""Report jobs whose worker died: as returns to the sweeper, and as summaries in the jobs' folders."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from mltricks.launch.job import Job
from mltricks.launch.worker import WorkerError
from mltricks.process.interrupt import EXIT_STATUS
from mltricks.summary import Summary, read_summary

KILL = 9
"""SIGKILL; Python on Windows has no name for it."""
STOPPED = {code: number for number, code in EXIT_STATUS.items()}
"""The signal that a worker caught, by its exit status."""


def lost(unit: Sequence[Job], status: int | None, said: str) -> list[Any]:
    """Return failed JobReturns for a unit whose worker ended without an answer, and write the jobs' summaries.

    A job that has already written its final ``summary.json`` keeps it. A job killed from outside gets status
    ``interrupted``, so the same command runs it again. A job that crashed its worker gets ``failed``.

    Args:
        unit: the jobs.
        status: exit status of the worker; a negative number is the signal that ended it.
        said: the last line that the worker wrote to standard error.
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
    """The signal from outside that ended a worker: SIGTERM, SIGINT or SIGKILL; ``None`` if the job crashed it."""
    number = STOPPED.get(status, -status) if status is not None else None
    return number if number in (*EXIT_STATUS, KILL) else None


def epitaph(status: int | None, said: str = "") -> str:
    """Describe how a worker ended.

    >>> epitaph(-11)
    'the worker crashed with SIGSEGV'
    """
    if status in STOPPED:
        return (
            f"the worker was stopped by {signal.Signals(STOPPED[status]).name}; type the same command again to resume"
        )
    if status is None or status >= 0:
        how = f"the worker ended with exit status {status} before the job was done"
    elif outside(status) is None:
        how = f"the worker crashed with {signal.Signals(-status).name}"
    else:
        how = f"the worker was killed by {signal.Signals(-status).name}"
        how += ", which the system sends when memory runs out" if -status == KILL else ""
    return f"{how}; last line of its standard error: {said}" if said else how
