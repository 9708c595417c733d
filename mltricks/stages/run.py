"""Run the stages in order: each is an ordinary run, and a finished one is not run again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mltricks import checkpoint
from mltricks.checkpoint import LAST
from mltricks.config.compose import compose, plain
from mltricks.config.names import without_brackets
from mltricks.config.overrides import parse
from mltricks.config.stages import LIST
from mltricks.observers.closing import interrupted
from mltricks.observers.create import InSweep
from mltricks.observers.facts import run_name, sweep_folder
from mltricks.observers.files import yaml_text
from mltricks.process.atomic import Occupied, alone_in
from mltricks.resume import assign, check_unused, differences, finished, is_free, saved_config
from mltricks.session import new_summary, note_failure
from mltricks.stages.outcome import RESULTS, link_results, report, result_of_last, told
from mltricks.stages.plan import plan
from mltricks.stages.record import Stage, read_stages, write_stages, write_text
from mltricks.summary import Summary, read_summary

TRAINING = "mltricks.jobs.train"
POLL_S = 0.2
"""Seconds between looks at a stage that another process runs."""
One = Callable[[dict[str, Any], Path, bool, Sequence[str], InSweep | None], Summary]
"""Trains one run: configuration, folder, whether to resume, overrides, settings in a sweep."""


def run_stages(
    cfg: dict[str, Any], folder: Path, resume: bool, overrides: Sequence[str], in_sweep: InSweep | None, one: One
) -> Summary:
    """Run the stages of a configuration; the result is that of the last one.

    Args:
        cfg: the resolved configuration of the whole.
        folder: its output folder; every stage has its own in it. Trials of a sweep share equal stages: all but the
            last one have theirs in the folder ``stages`` of the sweep.
        resume: whether to go on in ``folder``.
        overrides: of the command.
        in_sweep: the settings of a trial in a sweep.
        one: trains one run.

    Raises:
        ValueError: a stage is refused; the message names it.
    """
    command = cfg["stages"].get("command")
    if command is None:
        raise ValueError("the stages of this configuration have no command. Compose it by mltricks.compose([...]).")
    if resume:
        stages = resumed(cfg, folder, overrides)
        known = [text for text in command if not text.startswith("hydra.searchpath=")]
        overrides = known + [text for text in overrides if text not in known and not text.startswith("resume=")]
    else:
        if in_sweep is None and not cfg["overwrite"]:
            check_unused(folder)
        check_unchanged(cfg, command)
        stages = plan(cfg["stages"], command, folder, sweep_folder(folder) if in_sweep else None)
    with alone_in(folder):
        if not resume:
            begin(cfg, folder, stages, command)
        summary, taken = new_summary(folder, overrides, cfg), set[str]()
        try:
            last = in_order(cfg, folder, stages, in_sweep, one, taken)
        except BaseException as error:
            note_failure(summary, error)
            told(summary, folder, stages, taken).write(folder / "summary.json")
            if summary.status == "interrupted" and cfg["progress"] != "none":
                print(*interrupted(" between stages", folder), sep="\n", flush=True)
            raise
        summary = told(result_of_last(summary, last), folder, stages, taken)
        if summary.signal is None:
            link_results(folder, stages[-1].folder)
            report(cfg, folder, summary, stages, in_sweep)
        summary.write(folder / "summary.json")
    return summary


def check_unchanged(cfg: dict[str, Any], command: Sequence[str]) -> None:
    """Refuse a configuration that a program changed after it was composed: the stages are composed from its overrides.

    Raises:
        ValueError: names the setting.
    """
    for path, (mine, theirs) in differences(cfg, plain(compose(command))).items():
        if not is_free(path):
            raise ValueError(
                f"{path} was set to {mine} in a configuration with stages, whose stages have {theirs}. Give "
                f"mltricks.compose the override {path}={mine}, or stages.NAME.{path}={mine} for one of them."
            )


def last_stage(cfg: dict[str, Any], command: Sequence[str], sweep: Path, one: One) -> list[str]:
    """The overrides with which the last stage of a command is a run of its own; the others are run first.

    Args:
        cfg: the configuration of the whole.
        command: its overrides.
        sweep: the folder of a sweep, in which the other stages are kept.
        one: trains one run.
    """
    stages = plan(cfg["stages"], command, sweep / "0", sweep)
    if len(stages) > 1:
        in_order(cfg, sweep / "0", stages[:-1], InSweep(quiet=True), one, set())
    return list(stages[-1].command)


def begin(cfg: dict[str, Any], folder: Path, stages: Sequence[Stage], command: Sequence[str]) -> None:
    """Leave nothing of an earlier run in the folder, and write what a resume needs."""
    for path in (*RESULTS, Path("summary.json"), Path("report.html")):
        (folder / path).unlink(missing_ok=True)
    before = {stage.folder for stage in read_stages(folder, "")} if (folder / LIST).is_file() else set()
    for stage in stages:
        if stage.folder in before and stage.folder.parent == folder:
            shutil.rmtree(stage.folder)
        elif stage.folder.parent == folder and stage.folder.exists():
            raise ValueError(f"{stage.folder} is there already, and no stage made it. Type another hydra.run.dir.")
    recorded = {**cfg, "stages": {**cfg["stages"], "command": list(command)}}
    write_text(folder / "config.yaml", yaml_text(recorded))
    write_stages(folder, stages)


def resumed(cfg: dict[str, Any], folder: Path, overrides: Sequence[str]) -> list[Stage]:
    """The stages of a stopped run, with the settings that may change on resume.

    Raises:
        ValueError: the configuration would change past steps.
    """
    found = differences(cfg, saved_config(folder))
    for path, (mine, theirs) in found.items():
        if not is_free(path):
            raise ValueError(
                f"{path}={mine} cannot be given with resume={folder}: the stages there began with {theirs}. To train "
                "the last stage longer, resume its own folder."
            )
    typed = [override.key_or_group for override in parse(overrides)]  # also where the whole has this value already
    changes = dict.fromkeys([*found, *(key for key in typed if is_free(key) and key != "resume")])
    stages = read_stages(folder, f"resume={folder}")
    for stage in stages:
        if finished(stage.folder) is None:
            record_paths(stage)
        for path in changes:
            assign(stage.cfg, path, cfg)
    return stages


def record_paths(stage: Stage) -> None:
    """Let the record of a stopped stage name the folders of earlier stages where they are now, if they were moved."""
    if not differences(stage.cfg, saved_config(stage.folder)):
        return
    (stage.folder / "config.yaml").unlink(missing_ok=True)  # the two records may not differ, even after a kill
    if (stage.folder / LAST).is_file():
        content = checkpoint.load(stage.folder / LAST)
        checkpoint.save(stage.folder / LAST, content["state"], stage.cfg, stage.command)
    write_text(stage.folder / "config.yaml", yaml_text(stage.cfg))


def in_order(
    cfg: dict[str, Any],
    folder: Path,
    stages: Sequence[Stage],
    in_sweep: InSweep | None,
    one: One,
    taken: set[str],
) -> Summary:
    """Run what is not finished; return the summary of the last stage, or of the one that a signal stopped.

    ``taken`` receives the names of the stages that another run has computed.
    """
    summary = None
    for i, stage in enumerate(stages, 1):
        quiet = cfg["progress"] == "none"
        mine = in_sweep if i == len(stages) or in_sweep is None else replace(in_sweep, trial="")
        with named(stage), taken_in_turn(stage, folder):
            summary = finished(stage.folder)
            if not quiet:
                print(f"stage {i} of {len(stages)}, {stage.name}: {', '.join(words(stage, summary))}", flush=True)
            if summary is not None and stage.folder.parent != folder:
                taken.add(stage.name)
            if summary is None:
                check_given_up(stage, folder)
                summary = run_one(labelled(stage, cfg, folder), mine, one)
        if summary.signal is not None:
            return summary
    assert summary is not None, "there is a stage"
    return summary


def words(stage: Stage, done: Summary | None) -> Iterator[str]:
    """What the line of a stage says."""
    if done is not None:
        yield f"taken from {stage.folder}"
    yield " ".join(map(without_brackets, stage.overrides)) or "as the command says"


def run_one(stage: Stage, in_sweep: InSweep | None, one: One) -> Summary:
    """Train a stage, or run another job in its folder."""
    target = stage.cfg["job"]["_target_"]
    if target == TRAINING:
        return one(stage.cfg, stage.folder, (stage.folder / LAST).is_file(), stage.command, in_sweep)
    from omegaconf import OmegaConf

    from mltricks.config.create import locate

    job = locate(target, "job", stage.cfg["allow_modules"])
    mode = "RUN" if in_sweep is None and stage.cfg["progress"] != "none" else "MULTIRUN"  # which prints nothing
    # its own overrides alone: what all stages share is in the run of an earlier stage, from which such a job reads it
    job(OmegaConf.create(stage.cfg), stage.folder, list(stage.overrides), mode)
    summary = read_summary(stage.folder / "summary.json")
    if summary is None:
        name = target.rpartition(".")[2]
        raise ValueError(f"job={name} leaves no summary.json, so it cannot be a stage. Run it after the others.")
    return summary


def labelled(stage: Stage, cfg: dict[str, Any], folder: Path) -> Stage:
    """The stage with a name that says of which run it is, and in one group with the others at a tracker.

    In a sweep, whose trials share stages, the group is that of the sweep.
    """
    sweep, given = sweep_folder(folder), cfg["name"]
    progress = "none" if cfg["progress"] == "none" else stage.cfg["progress"]  # a sweep shows its own
    whole = run_name(given, folder, sweep) if stage.folder.parent == folder or sweep is None else given
    mine = {**stage.cfg, "progress": progress, "name": whole if sweep else f"{whole} {stage.name}"}
    if sweep is None and "group" in mine["tracker"] and mine["tracker"]["group"] is None:
        mine["tracker"] = {**mine["tracker"], "group": whole}
    return replace(stage, cfg=mine)


@contextmanager
def named(stage: Stage) -> Iterator[None]:
    """Errors inside this block name the stage."""
    try:
        yield
    except Exception as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (f"stage {stage.name}: {error.args[0]}", *error.args[1:])
        raise


@contextmanager
def taken_in_turn(stage: Stage, folder: Path) -> Iterator[None]:
    """Inside this block no other trial works at a stage that several share; waits for one that does."""
    if stage.folder.parent == folder or finished(stage.folder):
        yield
        return
    claim = stage.folder.with_name(f".{stage.folder.name}")
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(alone_in(claim))
                break
            except Occupied:
                time.sleep(POLL_S)
        yield
        with suppress(OSError):  # whoever waits for it finds the stage finished
            claim.rmdir()


def check_given_up(stage: Stage, folder: Path) -> None:
    """Refuse to repeat a shared stage that diverged: it would do so for every trial."""
    before = read_summary(stage.folder / "summary.json")
    if stage.folder.parent != folder and before is not None and before.status == "diverged":
        raise ValueError(f"it diverged for another trial, in {stage.folder}: {before.error}")
