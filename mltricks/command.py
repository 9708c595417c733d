"""What Hydra calls for every job, in this process or in a worker's."""

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
"""Jobs that write no output folder."""
failed: list[Exception] = []
"""The error of a single run, which the command prints in its own form."""


def task(cfg: Any) -> Any:
    """Run the job; a single one hands its error over in ``failed``, as Hydra would print it too."""
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
    """End with the status of the signal that stopped this process, whatever error has become of it."""
    if (number := stopped_by()) is not None:
        sys.exit(EXIT_STATUS[number])


def run_job(cfg: Any) -> Any:
    """Run the job that the configuration names; what a sweeper optimises comes back."""
    from hydra.core.hydra_config import HydraConfig

    from mltricks.config.create import locate

    hydra_cfg = HydraConfig.get()
    folder, overrides = Path(hydra_cfg.runtime.output_dir), list(hydra_cfg.overrides.task)
    try:
        job = locate(cfg.job._target_, "job", cfg.allow_modules)
        if hydra_cfg.runtime.choices.get("job") not in QUIET_JOBS:
            import torch  # noqa: F401 (what every other job needs, and most of what is imported at all)
        watch_garbage()
        return job(cfg, folder, overrides, "MULTIRUN" if is_sweep() else "RUN")
    except Exception as error:
        if is_sweep():
            if hydra_cfg.runtime.choices.get("hydra/launcher") != "local":  # which has its own line for every job
                name = f"job {hydra_cfg.job.num} ({' '.join(overrides)})"
                print(f"error: {name} failed: {message_of(error)}", file=sys.stderr)
        elif isinstance(error, ValueError):
            remove_if_unused(folder)
        raise


def watch_garbage() -> None:
    """Look for garbage from now on, but not among what importing has made; once in a process."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def is_sweep() -> bool:
    """Whether the job in hand is one of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def remove_if_unused(folder: Path) -> None:
    """Remove an output folder that holds nothing but the record of a refused command, and the date's above it."""
    if not {path.name for path in folder.iterdir()} <= {".hydra", "summary.json"} or folder == Path.cwd():
        return
    shutil.rmtree(folder)
    remove_empty(folder.parent)


def message_of(error: BaseException, arguments: Sequence[str] = ()) -> str:
    """What a user needs to know of an error: its message, and more where Hydra's own says little."""
    from mltricks.config.compose import explain
    from mltricks.config.overrides import split_arguments

    if type(error).__module__.startswith("hydra") and isinstance(error, Exception):
        overrides, options = split_arguments(arguments)
        error = explain(error, overrides, options.get("--config-dir") or options.get("-cd"))
    text = str(error).strip() or type(error).__name__
    home = type(error).__module__
    if isinstance(error, ValueError | OSError) or home.startswith(("hydra", "omegaconf", "mltricks")):
        return text
    return f"{type(error).__name__}: {text} (set HYDRA_FULL_ERROR=1 for the traceback)"
