"""Run a unit of jobs: a single job alone, several jobs as a stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobRuntime, setup_globals

from mltricks.launch.job import Job
from mltricks.launch.run_job import Task, Tell, run


def execute_elsewhere(unit: Sequence[Job], task: Task, trusted: Any) -> list[Any]:
    """Run the jobs of a unit in a worker process, which Hydra has not set up.

    Args:
        unit: the jobs.
        task: the function that runs one job.
        trusted: Hydra's whitelist of the targets that a configuration may instantiate.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.utils import execution_whitelist

    setup_globals()
    config = unit[0].hydra.config(unit[0].folder)
    JobRuntime.instance().set("name", config.hydra.job.name)
    with execution_whitelist(trusted):
        return execute(unit, task, Callbacks(config))


def execute(unit: Sequence[Job], task: Task, callbacks: Any, tell: Tell | None = None) -> list[Any]:
    """Run the jobs of a unit: a single job alone, several jobs as a stack.

    Args:
        unit: the jobs.
        task: the function that runs one job.
        callbacks: Hydra's callbacks.
        tell: called with each job and its JobReturn as soon as the job ends.

    Returns:
        A JobReturn for each job, in order.
    """
    if len(unit) > 1:
        from mltricks.launch.execute_stack import execute_stack

        return execute_stack(unit, task, callbacks, tell)
    result = run(unit[0], task, callbacks)
    if tell is not None:
        tell(unit[0], result)
    return [result]
