"""The command: ``python -m mltricks``.

Exit status: 0 for success, which includes early stopping and a signal after the last step; 1 for an error; 75 after
SIGTERM; 130 after Ctrl-C. A run interrupted during training saves a checkpoint first. A run interrupted while it is
built has nothing to save, and ``resume=`` starts it again. A second Ctrl-C exits at once and keeps the last checkpoint.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mltricks import command
from mltricks.about.answer import answer
from mltricks.command import QUIET_JOBS, exit_if_stopped, message_of
from mltricks.process.interrupt import EXIT_STATUS, stop_now
from mltricks.process.leave import run_and_leave
from mltricks.process.libraries import load_ahead

SHORT = "MLTRICKS_SHORT_ERRORS"
"""Environment variable that tells child processes that we, not the user, set HYDRA_FULL_ERROR."""

BESIDE_A_RUN = ("evaluate", "predict", "compare")
"""Jobs that write files of their own, also into the folder of a run."""

HYDRAS = ("mltricks.report.callback.SweepPage",)
"""Classes of ours that Hydra instantiates itself, apart from plugins: its callbacks. ``mltricks.config.create``
instantiates everything else and has its own rule."""


def main() -> None:
    """Run the command line and exit with status 0, 1, 75 or 130."""
    gc.disable()  # imported modules stay alive; garbage collection over them would take a tenth of the start-up time
    for number in EXIT_STATUS:
        signal.signal(number, stop_now)
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1" and SHORT not in os.environ
    if not wants_traceback:
        os.environ |= {"HYDRA_FULL_ERROR": "1", SHORT: "1"}  # Hydra re-raises; exceptions are formatted below
    typed = sys.argv[1:]
    try:
        if (text := answer(typed)) is not None:
            sys.stdout.write(text)
            return
        sys.argv[1:] = prepare(typed)
        run_hydra()
    except (KeyboardInterrupt, Exception) as error:
        exit_if_stopped()
        if wants_traceback:
            raise
        print(f"error: {message_of(error, typed)}", file=sys.stderr)
        sys.exit(1)


def run() -> NoReturn:
    """Run the command and exit the process."""
    run_and_leave(main, sys.argv[1:], sys._getframe())


def run_hydra() -> None:
    """Compose the configuration and run the job, or the sweep."""
    import hydra

    from mltricks.config.options import conf_dir
    from mltricks.config.overrides import choices, parse
    from mltricks.config.stages import keep_references

    keep_references()
    load_ahead(sys.argv[1:])
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does, so that the user's modules can be imported
    own = [name for o in parse([t for t in sys.argv if t.startswith("allow_modules=")]) for name in choices(o.value())]
    trusted = [*HYDRAS, *(f"{module}.*" for module in own)]
    hydra.main(config_path=str(conf_dir()), config_name="config", execution_whitelist=trusted)(command.task)()
    if command.failed:
        raise command.failed[0]


def prepare(arguments: Sequence[str]) -> list[str]:
    """Expand short forms, check the overrides, and choose the output folder.

    The folder is the resumed run's; jobs that only print get none.

    Raises:
        ValueError: an override is invalid.
    """
    from mltricks.config.check import check_overrides
    from mltricks.config.effects import idle
    from mltricks.config.names import with_brackets
    from mltricks.config.options import conf_dir
    from mltricks.config.overrides import own_folders, split_arguments
    from mltricks.config.shorthand import expand
    from mltricks.config.slips import check_command, idle_folder, repeated
    from mltricks.config.stages import as_change

    arguments = [text if text.startswith("-") else as_change(with_brackets(text)) for text in arguments]
    arguments = expand(explaining(arguments) if "job=explain" in arguments else arguments)
    overrides, options = split_arguments(arguments)
    check_command(overrides, options)
    folders = [conf_dir(), *own_folders(overrides, options)]
    multirun = bool({"-m", "--multirun"} & options.keys())
    parsed = check_overrides(overrides, folders, multirun)
    readable = [folder for folder in folders if folder is not None]
    for line in [*repeated(parsed, multirun), *idle_folder(parsed, multirun), *idle(parsed, readable, multirun)]:
        print(line, file=sys.stderr)
    asked = ("resume", "job", "show", "overwrite", "hydra.run.dir")
    chosen = {o.key_or_group: o.value() for o in parsed if o.key_or_group in asked}
    if chosen.get("resume") is not None:
        return resuming(arguments, chosen, multirun)
    if chosen.get("job") in QUIET_JOBS or chosen.get("show") is True:
        return [*arguments, "hydra.run.dir=.", "hydra.output_subdir=null"]
    shows = {"-c", "--cfg", "-i", "--info", "-h", "--help"} & options.keys()
    if multirun and not shows:
        return sweeping(arguments, parsed)
    if "hydra.run.dir" in chosen and not shows:
        folder = resolved(str(chosen["hydra.run.dir"]), overrides, options.get("--config-dir") or options.get("-cd"))
        return arguments if folder is None else into(folder, str(chosen.get("job", "train")), arguments, chosen)
    return arguments


def resolved(folder: str, overrides: Sequence[str], config_dir: str | None) -> Path | None:
    """An output folder with its interpolations resolved; ``None`` where they name the time or values of Hydra.

    Hydra writes its record into the folder before the run starts and can refuse it.
    """
    if "${" not in folder:
        return Path(folder)
    if "${now:" in folder or "${hydra" in folder:
        return None
    from omegaconf import OmegaConf

    from mltricks.config.compose import compose

    cfg = compose(overrides, config_dir)
    OmegaConf.set_struct(cfg, False)
    cfg["hydra.run.dir"] = folder
    return Path(str(cfg["hydra.run.dir"]))


def into(folder: Path, job: str, arguments: list[str], chosen: Mapping[str, Any]) -> list[str]:
    """The arguments of a command with a folder: no finished run there is lost, nor its record by Hydra.

    Raises:
        ValueError: the folder holds a run that the job would overwrite.
    """
    if job in BESIDE_A_RUN:
        return [*arguments, "hydra.output_subdir=null"] if (folder / "checkpoints").is_dir() else arguments
    from mltricks.folders import check_folder, check_other  # imports torch, which other commands do not need

    if job == "train":
        check_folder(folder, bool(chosen.get("overwrite")))
    else:
        check_other(folder, job)
    return arguments


def explaining(arguments: list[str]) -> list[str]:
    """The arguments of ``job=explain``: everything that the command names is a subject, and none of it is applied."""
    from mltricks.about.explain import subjects
    from mltricks.config.overrides import quoted, split_arguments

    overrides = split_arguments(arguments)[0]
    applied = [text for text in overrides if text == "job=explain" or text.startswith("hydra.searchpath=")]
    asked = subjects([text for text in overrides if text not in applied])
    flags = [text for text in arguments if text not in overrides and text not in ("-m", "--multirun")]
    return [*flags, *applied, f"job.key=[{','.join(map(quoted, asked))}]"]


def resuming(arguments: list[str], chosen: Mapping[str, Any], multirun: bool) -> list[str]:
    """The arguments that resume a run: in its folder, with settings of its own options.

    Raises:
        ValueError: the run's folder is none, or another one is given beside it.
    """
    from mltricks.config.overrides import is_setting, quoted, split_arguments

    folder = chosen["resume"]
    if multirun or not isinstance(folder, str | int | float):
        raise ValueError("resume continues one run. Run the command once for each, without -m.")
    path = Path(str(folder))
    if not path.is_dir():
        what = "that is a file" if path.is_file() else "there is no such folder"
        raise ValueError(f"resume={folder}: {what}. Give the output folder of a run.")
    if Path(str(chosen.get("hydra.run.dir", path))) != path:
        raise ValueError("hydra.run.dir has no effect with resume: the run stays in its folder. Leave it out.")
    settings = {text for text in split_arguments(arguments)[0] if is_setting(text)}
    added = [f"++{text}" if text in settings else text for text in arguments]
    return [*added, f"hydra.run.dir={quoted(str(folder))}", "hydra.output_subdir=null"]


def sweeping(arguments: list[str], parsed: Sequence[Any]) -> list[str]:
    """The arguments of a sweep: ours keep every result, those of others must not lose one silently.

    Raises:
        ValueError: another's sweeper would overwrite finished runs.
    """
    from mltricks.config.shorthand import chosen_sweeper, owners

    given = {o.key_or_group: o for o in parsed if not o.is_delete()}
    sweeper, overwrite = chosen_sweeper(arguments), given.get("overwrite")
    if sweeper in owners():
        if overwrite is None:
            return arguments
        line = f"note: {overwrite.input_line} has no effect on hydra/sweeper={sweeper}, which keeps every result"
        print(line, file=sys.stderr)
        return [text for text in arguments if text != overwrite.input_line]
    place = given.get("hydra.sweep.dir")
    if place is not None and (overwrite is None or overwrite.value() is not True):
        from mltricks.folders import check_sweep

        check_sweep(Path(str(place.value())), sweeper)
    return arguments


if __name__ == "__main__":
    run()
