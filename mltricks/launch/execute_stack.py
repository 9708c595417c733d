"""Train several jobs as one stack; each gets the same output folder and result as it would alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus, env_override

from mltricks.launch.job import Job
from mltricks.launch.run_job import Task, Tell, environment, fail, run, staged, write_record


class NotTrained(Exception):
    """The error of a failed stack member, with the member's message."""


def execute_stack(unit: Sequence[Job], task: Task, callbacks: Any, tell: Tell | None) -> list[Any]:
    """Train jobs as one stack. If the stack fails, print why and run the remaining jobs one by one.

    Args:
        unit: jobs that differ only in floats and seeds.
        task: the function that runs one job.
        callbacks: Hydra's callbacks; called for each job when it ends.
        tell: called with each job and its JobReturn as soon as the job ends.
    """
    from mltricks.command import watch_garbage
    from mltricks.launch.fused import train_fused

    watch_garbage()
    done: dict[int, Any] = {}

    def ended(job: Job, result: Any) -> None:
        done[job.num] = result
        if tell is not None:
            tell(job, result)

    for job in unit:
        config = job.hydra.config(job.folder)
        job.folder.mkdir(parents=True, exist_ok=True)
        if config.hydra.output_subdir is not None:
            write_record(job, config, job.hydra.task_config())
    before = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = unit[0].hydra.config(unit[0].folder)
    variables = {
        **environment(HydraConfig.instance().cfg),
        "MLTRICKS_TRIAL": "",
    }  # no token here: each member reports with its own
    try:
        with env_override(variables):
            train_fused(unit, lambda job, summary: ended(job, concluded(job, summary, task, callbacks)))
    except Exception as error:
        if len(done) < len(unit):
            print(f"a stack of {len(unit)} jobs cannot be trained, so they run one by one: {error}", flush=True)
    finally:
        HydraConfig.instance().cfg = before
    for job in unit:
        if job.num not in done:
            ended(job, run(job, task, callbacks))
    return [done[job.num] for job in unit]


def concluded(job: Job, summary: Any, task: Task, callbacks: Any) -> Any:
    """Make the JobReturn of a job trained in a stack from its summary."""
    from mltricks.ledger import Diverged

    with staged(job, task, callbacks, recorded=True) as (_, result):
        if summary.status in ("failed", "diverged"):
            kind = Diverged if summary.status == "diverged" else NotTrained
            fail(result, kind(summary.error))
        else:
            result.return_value, result.status = summary.objective["value"], JobStatus.COMPLETED
    return result
