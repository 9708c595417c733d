"""Launch the jobs of a sweep: compose, check and plan them, then run them in this process or in workers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from mltricks.launch.compose import Composer
from mltricks.launch.execute import execute, execute_elsewhere
from mltricks.launch.job import Job
from mltricks.launch.plan import Plan, plan
from mltricks.launch.progress import Progress
from mltricks.launch.run_job import Task


def launch(
    settings: dict[str, Any],
    composer: Composer,
    context: Any,
    task: Task,
    numbered: Sequence[tuple[int, Sequence[str]]],
) -> list[Any]:
    """Launch jobs and wait for their results.

    Args:
        settings: the settings in ``conf/hydra/launcher/local.yaml``.
        composer: composes the jobs of the sweep.
        context: Hydra's context.
        task: the function that runs one job.
        numbered: number and overrides of every job.

    Returns:
        A JobReturn for each job, in order.

    Raises:
        ValueError: a setting, a job's overrides or a value is invalid; no job has run.
    """
    check(settings)
    jobs = [composer.job(num, list(job)) for num, job in numbered]
    trains = getattr(task, "__module__", None) == "mltricks.command"
    if trains:
        from mltricks.launch.check import check_values

        check_values(jobs)
    planned = plan(jobs, settings["fuse"], settings["workers"], trains)
    with Progress(jobs, planned.units, len(planned.slots) or 1) as progress:
        progress.note(planned.notes)
        returns = run_plan(planned, task, context, progress)
    return [returns[job.num] for job in jobs]


def check(settings: dict[str, Any]) -> None:
    """Refuse unknown settings and invalid values."""
    known = {"fuse", "workers"}
    if unknown := settings.keys() - known:
        from mltricks.config.values import UnknownName, suggest

        name = sorted(unknown)[0]
        raise UnknownName(f"{name} is no setting of hydra/launcher=local. {suggest(name, known)}")
    if settings["fuse"] not in (True, False, "auto"):
        raise ValueError(f"fuse={settings['fuse']}: type auto, true or false.")


def run_plan(planned: Plan, task: Task, context: Any, progress: Progress) -> dict[int, Any]:
    """Run the units of a plan; return the JobReturn of every job by its number."""
    returns: dict[int, Any] = {}

    def note(unit: Sequence[Job], results: Sequence[Any]) -> None:
        for job, result in zip(unit, results, strict=True):
            returns[job.num] = result

    if planned.slots:
        from mltricks.launch.slots import run_in_slots

        def ended(unit: Sequence[Job], results: Sequence[Any]) -> None:
            note(unit, results)
            for job, result in zip(unit, results, strict=True):
                progress.end(job, result)

        run_in_slots(
            progress.starting(planned.units),
            planned.slots,
            partial(execute_elsewhere, task=task, trusted=context.execution_whitelist),
            ended,
        )
        return returns
    for unit in progress.starting(planned.units):
        with threads_of(unit, planned):
            note(unit, execute(unit, task, context.callbacks, progress.end))
    return returns


def threads_of(unit: Sequence[Job], planned: Plan) -> AbstractContextManager[None]:
    """A context in which torch uses the number of threads that is fastest for a stack."""
    if len(unit) == 1 or not planned.threads:
        return nullcontext()
    from mltricks.launch.probe import num_threads

    return num_threads(planned.threads)
