"""Run one job as Hydra does: folder, record, environment variables, callbacks."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, configure_log, env_override

from mltricks.launch.job import Job

Task = Callable[[Any], Any]
Tell = Callable[[Job, Any], None]


class Return(JobReturn):
    """The JobReturn of a job. It makes its configurations on demand, which saves memory in large sweeps."""

    job: Job

    @property
    def cfg(self) -> Any:
        return self.job.hydra.task_config()

    @cfg.setter
    def cfg(self, value: Any) -> None:
        """Ignored: the configuration comes from the job."""

    @property
    def hydra_cfg(self) -> Any:
        return self.job.hydra.hydra_config(self.job.folder)

    @hydra_cfg.setter
    def hydra_cfg(self, value: Any) -> None:
        """Ignored: the configuration comes from the job."""


def run(job: Job, task: Task, callbacks: Any) -> Any:
    """Run one job. The JobReturn holds an ``Exception``; ``KeyboardInterrupt`` and ``SystemExit`` propagate."""
    with staged(job, task, callbacks) as (task_config, result):
        try:
            result.return_value = task(quiet(task_config))
            result.status = JobStatus.COMPLETED
        except Exception as error:
            fail(result, error)
            log_to_files()
    return result


@contextmanager
def staged(job: Job, task: Task, callbacks: Any, recorded: bool = False) -> Iterator[tuple[Any, Any]]:
    """A context that does everything that Hydra does before and after a job's function.

    Args:
        job: the job.
        task: its function.
        callbacks: Hydra's callbacks.
        recorded: whether Hydra's record is already in its folder.

    Yields:
        The configuration for the function, and the JobReturn to fill.
    """
    config, task_config = job.hydra.config(job.folder), job.hydra.task_config()
    before, cwd = HydraConfig.instance().cfg, os.getcwd()
    HydraConfig.instance().cfg = config
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        if config.hydra.job.chdir:
            os.chdir(job.folder)
        configure_log(config.hydra.job_logging, config.hydra.verbose)
        if config.hydra.output_subdir is not None and not recorded:
            write_record(job, config, task_config)
        result = new_return(job)
        with env_override(environment(config)):
            yield from _dispatched(config, task_config, result, task, callbacks)
    finally:
        HydraConfig.instance().cfg = before
        if os.getcwd() != cwd:
            os.chdir(cwd)


def _dispatched(config: Any, task_config: Any, result: Any, task: Task, callbacks: Any) -> Iterator[tuple[Any, Any]]:
    try:
        callbacks.on_job_start(config=config, task_function=task)
        yield task_config, result
    except BaseException as error:
        fail(result, error)
        raise
    finally:
        callbacks.on_job_end(config=config, job_return=result)


def new_return(job: Job) -> Any:
    """Make a JobReturn without a result."""
    result = Return()
    result.job, result.overrides = job, list(job.overrides)
    result.working_dir, result.task_name = os.getcwd(), JobRuntime.instance().get("name")
    return result


def fail(result: Any, error: BaseException) -> None:
    """Record an error in a JobReturn."""
    result.return_value, result.status = error, JobStatus.FAILED


def environment(config: Any) -> dict[str, str]:
    """The environment variables of a job; resolves them in its configuration, as Hydra does."""
    from omegaconf import OmegaConf, read_write

    with read_write(config.hydra.job.env_set):
        OmegaConf.resolve(config.hydra.job.env_set)
    return {key: str(value) for key, value in config.hydra.job.env_set.items()}


def write_record(job: Job, config: Any, task_config: Any) -> None:
    """Write Hydra's record of a job to its folder, with environment variables resolved."""
    environment(config)
    folder = job.folder / config.hydra.output_subdir
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in job.hydra.record(config, task_config, job.folder).items():
        (folder / name).write_text(text, encoding="utf-8")


def log_to_files() -> None:
    """Write the traceback of the current error to the job's log files, as it is not printed."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "Job failed", (), sys.exc_info())
            handler.handle(record)


def quiet(task_config: Any) -> Any:
    """Switch off the progress display of single epochs, unless the command sets ``progress``."""
    if task_config.get("progress") == "auto":
        task_config.progress = "none"
    return task_config
