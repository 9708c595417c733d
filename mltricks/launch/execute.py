"""Running a unit of jobs: one alone, several as a stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobRuntime, setup_globals

from mltricks.launch.job import Job
from mltricks.launch.run_job import Task, Tell, run


def execute_elsewhere(unit: Sequence[Job], task: Task, trusted: Any) -> list[Any]:
    """Run the jobs of a unit in a process that Hydra has not set up.

    Args:
        unit: jobs.
        task: the function that runs one job.
        trusted: Hydra's list of what a configuration may have executed.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.utils import execution_whitelist

    setup_globals()
    config = unit[0].hydra.config(unit[0].folder)
    JobRuntime.instance().set("name", config.hydra.job.name)
    with execution_whitelist(trusted):
        return execute(unit, task, Callbacks(config))


def execute(unit: Sequence[Job], task: Task, callbacks: Any, tell: Tell | None = None) -> list[Any]:
    """Run the jobs of a unit: one alone, several as a stack.

    Args:
        unit: jobs.
        task: the function that runs one job.
        callbacks: Hydra's.
        tell: called with every job and what became of it, as soon as it ends.

    Returns:
        A JobReturn for each, in order.
    """
    if len(unit) > 1:
        from mltricks.launch.execute_stack import execute_stack

        return execute_stack(unit, task, callbacks, tell)
    result = run(unit[0], task, callbacks)
    if tell is not None:
        tell(unit[0], result)
    return [result]
