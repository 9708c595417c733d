"""The command: ``python -m mltricks``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

QUIET_JOBS = ("list", "explain")
"""Jobs that write no output folder."""


def main() -> None:
    """Run the command line; the exit status is that of the contract: 0, 1, 75 or 130."""
    arguments = sys.argv[1:]
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come through to here, where they get their form
    try:
        sys.argv[1:] = prepare(arguments)
        run_hydra()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if wants_traceback:
            raise
        print(f"error: {message_of(error)}", file=sys.stderr)
        sys.exit(1)


def run_hydra() -> None:
    """Compose the configuration and run the job, or the sweep."""
    import hydra

    from mltricks.config import conf_dir

    hydra.main(config_path=str(conf_dir()), config_name="config")(run_job)()


def run_job(cfg: Any) -> Any:
    """Run the job that the configuration names; what a sweeper optimises comes back."""
    from hydra.core.hydra_config import HydraConfig

    from mltricks.config import locate

    hydra_cfg = HydraConfig.get()
    job = locate(cfg.job._target_, "job", cfg.allow_modules)
    return job(cfg, Path(hydra_cfg.runtime.output_dir), list(hydra_cfg.overrides.task), str(hydra_cfg.mode.name))


def prepare(arguments: Sequence[str]) -> list[str]:
    """Check the overrides, and send the output where it belongs: into a resumed folder, or nowhere for jobs that only print."""
    from mltricks.config import conf_dir
    from mltricks.overrides import check_overrides

    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    values = dict(a.split("=", 1) for a in overrides)
    check_overrides(overrides, [conf_dir(), *own_folders(arguments, values)])
    extra = []
    if values.get("resume", "null") != "null":
        extra = [f"hydra.run.dir={quoted(values['resume'])}", "hydra.output_subdir=null"]
    elif values.get("job") in QUIET_JOBS or values.get("show", "").lower() == "true":
        extra = ["hydra.run.dir=.", "hydra.output_subdir=null"]
    return [*arguments, *extra]


def own_folders(arguments: Sequence[str], values: dict[str, str]) -> list[Path]:
    """The user's own folders of options, from ``--config-dir`` and ``hydra.searchpath``."""
    folders = []
    for i, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            folders.append(Path(value or (arguments[i + 1] if i + 1 < len(arguments) else ".")))
    search = values.get("hydra.searchpath", "").strip("[]")
    folders += [Path(item.strip().removeprefix("file://")) for item in search.split(",") if item.strip().startswith("file://")]
    return folders


def quoted(text: str) -> str:
    """A value as Hydra's grammar reads it back unchanged."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def message_of(error: BaseException) -> str:
    """What a user needs to know of an error: its message, and the cause where Hydra wraps one."""
    text = str(error).strip() or type(error).__name__
    known = isinstance(error, ValueError | OSError) or type(error).__module__.startswith(("hydra", "omegaconf", "mltricks"))
    hint = "" if known else " (set HYDRA_FULL_ERROR=1 for the traceback)"
    return (text if known else f"{type(error).__name__}: {text}") + hint


if __name__ == "__main__":
    main()
