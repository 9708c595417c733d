"""The task function: Hydra calls it for every job, in this process or in a worker."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mltricks.process.atomic import remove_empty
from mltricks.process.interrupt import EXIT_STATUS, stopped_by

QUIET_JOBS = ("list", "explain")
"""Jobs without an output folder."""
WITHOUT_TORCH = (*QUIET_JOBS, "compare")
"""Jobs that read files alone."""
failed: list[Exception] = []
"""The exception of a single run; the command formats and prints it."""


def task(cfg: Any) -> Any:
    """Run the job. A single job stores its exception in ``failed``: if raised, Hydra would print it as well."""
    exit_if_stopped()
    try:
        return run_job(cfg)
    except Exception as error:
        exit_if_stopped()
        if is_sweep():
            raise
        failed.append(error)
        return None


def exit_if_stopped() -> None:
    """Exit with the status of the signal that stopped this process, even if the signal surfaced as another error."""
    if (number := stopped_by()) is not None:
        sys.exit(EXIT_STATUS[number])


def run_job(cfg: Any) -> Any:
    """Run the job that the configuration names, and return the value a sweeper optimises."""
    from hydra.core.hydra_config import HydraConfig

    from mltricks.config.create import locate

    hydra_cfg = HydraConfig.get()
    folder, overrides = Path(hydra_cfg.runtime.output_dir), list(hydra_cfg.overrides.task)
    try:
        job = locate(cfg.job._target_, "job", cfg.allow_modules)
        if hydra_cfg.runtime.choices.get("job") not in WITHOUT_TORCH:
            import torch  # noqa: F401 (every other job needs it, and it is most of the import time)
        check_alone(cfg, str(hydra_cfg.runtime.choices.get("job")))
        watch_garbage()
        return job(cfg, folder, overrides, "MULTIRUN" if is_sweep() else "RUN")
    except Exception as error:
        if is_sweep():
            if hydra_cfg.runtime.choices.get("hydra/launcher") != "local":  # a sweep prints one line per job itself
                name = f"job {hydra_cfg.job.num} ({' '.join(overrides)})"
                print(f"error: {name} failed: {message_of(error)}", file=sys.stderr)
        elif isinstance(error, ValueError):
            remove_if_unused(folder)
        raise


def check_alone(cfg: Any, job: str) -> None:
    """Refuse a run of stages to a job of ours that works on a single run.

    Raises:
        ValueError: names the stages.
    """
    from mltricks.config.stages import stage_names

    names = stage_names(cfg.stages)
    if names and job not in ("train", "custom", *QUIET_JOBS) and cfg.job._target_.startswith("mltricks."):
        raise ValueError(
            f"job={job} works on one run, and this command has the stages {', '.join(names)}. Leave the experiment "
            "out, and type the settings of the stage."
        )


def watch_garbage() -> None:
    """Turn garbage collection on and exempt the imported modules from it; once per process."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def is_sweep() -> bool:
    """Whether the current job belongs to a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def remove_if_unused(folder: Path) -> None:
    """Remove an output folder that holds only Hydra's record of a refused command, and its empty date folder."""
    if not {path.name for path in folder.iterdir()} <= {".hydra", "summary.json"} or folder == Path.cwd():
        return
    shutil.rmtree(folder)
    remove_empty(folder.parent)


def message_of(error: BaseException, arguments: Sequence[str] = ()) -> str:
    """The error message for the user, with details where Hydra's own message lacks them."""
    from mltricks.config.compose import explain
    from mltricks.config.overrides import split_arguments

    if type(error).__module__.startswith("hydra") and isinstance(error, Exception):
        overrides, options = split_arguments(arguments)
        error = explain(error, overrides, options.get("--config-dir") or options.get("-cd"))
    text = str(error).strip() or type(error).__name__
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"{error.filename}: permission denied. Change its permissions, or type another file or folder."
    home = type(error).__module__
    if isinstance(error, ValueError | OSError) or home.startswith(("hydra", "omegaconf", "mltricks")):
        return text
    return f"{type(error).__name__}: {text} (set HYDRA_FULL_ERROR=1 for the traceback)"
