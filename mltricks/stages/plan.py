"""The plan of a run of stages: the configuration and the folder of each, before the first one starts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mltricks.config.compose import compose, plain
from mltricks.config.names import with_brackets
from mltricks.config.overrides import parse
from mltricks.config.stages import RESERVED, check_stages, leaves, stage_names
from mltricks.config.values import UnknownName, suggest
from mltricks.resume import differences, finished, is_free
from mltricks.stages.overrides import overrides_of, written
from mltricks.stages.record import Stage, read_stages, with_paths

REFERENCE = re.compile(r"\$\{stage:(\w+)\}")
OF_THE_WHOLE = ("stages", "name", "resume", "overwrite", "show")
"""Keys of the command that no stage receives."""
COUNTING = ("job", "checkpoint", "input", "data.path")
"""Settings that may change on resume, and on which the result of a stage depends."""


def plan(node: Mapping[str, Any], command: Sequence[str], folder: Path, sweep: Path | None) -> list[Stage]:
    """The stages that a command runs, and those that they take something from.

    Args:
        node: the configuration's node ``stages``.
        command: the overrides of the whole command.
        folder: of the run of stages.
        sweep: the folder of the sweep that it belongs to, whose trials share equal stages.

    Raises:
        ValueError: a stage is refused; the message names it.
    """
    check_stages(node)
    shared = [with_brackets(text) for text in command if not of_the_whole(text)]
    done = {} if node.get("done") is None else done_in(Path(str(node["done"])))
    names, planned = stage_names(node), dict[str, Stage]()
    without_stages = [*filter(adds_or_removes, command), *(f"~stages.{name}" for name in names)]
    for name in names:
        own = overrides_of(node, name)
        check_conflict(name, shared, own)
        stage = composed(name, [*shared, *without_stages], own, planned, folder)
        if stage.key in done:
            stage = replace(stage, folder=done[stage.key])
        elif sweep is not None and name != names[-1]:
            stage = replace(stage, folder=sweep / "stages" / f"{name}-{stage.key}")
        planned[name] = stage
    return chosen(node, planned, done)


def last_of(cfg: dict[str, Any], command: Sequence[str]) -> dict[str, Any]:
    """The configuration of the last stage; of a configuration without stages that itself.

    Args:
        cfg: the resolved configuration of the whole.
        command: its overrides.
    """
    return plan(cfg["stages"], command, Path(), None)[-1].cfg if stage_names(cfg["stages"]) else cfg


def of_the_whole(override: str) -> bool:
    """Whether an override of the command is none of its stages'."""
    key = override.partition("=")[0].lstrip("+~")
    first = key.partition(".")[0]
    return first in OF_THE_WHOLE or (first == "hydra" and key != "hydra.searchpath") or key.startswith("hydra/")


def adds_or_removes(override: str) -> bool:
    """Whether an override of the command adds a stage to those of the experiment, or leaves one out.

    >>> list(map(adds_or_removes, ["~stages.scratch", "+stages.more=[]", "stages.only=a", "++stages.changes.a.seed=1"]))
    [True, True, False, False]
    """
    key = override.partition("=")[0]
    first, *path = key.lstrip("+~").split(".")
    return key[:1] in ("+", "~") and first == "stages" and len(path) == 1 and path[0] not in RESERVED


def check_conflict(name: str, shared: Sequence[str], own: Sequence[str]) -> None:
    """Refuse an override for all stages that one of them sets to something else.

    Raises:
        ValueError: says how the stage's own value is changed.
    """
    keys = {override.key_or_group for override in parse([with_brackets(text) for text in own])}
    for override in parse(shared):
        if override.key_or_group in keys:
            raise ValueError(
                f"{override.input_line}: the stage {name} sets {override.key_or_group} itself. "
                f"Type stages.{name}.{override.input_line.lstrip('+')} to change it there."
            )


def composed(name: str, shared: Sequence[str], own: Sequence[str], before: Mapping[str, Stage], folder: Path) -> Stage:
    """A stage with its configuration.

    Args:
        name: of the stage.
        shared: the overrides of all stages.
        own: those of the stage.
        before: the earlier stages.
        folder: of the run of stages.

    Raises:
        ValueError: its configuration cannot be composed, or it refers to a stage that is none of the earlier ones.
    """
    needs = tuple(dict.fromkeys(found for text in own for found in REFERENCE.findall(text)))
    for other in needs:
        if other not in before:
            raise UnknownName(
                f"stages.{name}: ${{stage:{other}}} names no earlier stage. {suggest(other, list(before))}"
            )
    given = [with_folders(text, before) for text in own]
    try:
        cfg = plain(compose([*shared, *given]))
    except ValueError as error:
        raise type(error)(f"stages.{name}: {error}") from error
    cfg = {**cfg, "name": None}
    keys = {before[other].at: before[other].key for other in needs}
    return Stage(name, folder / name, key_of(cfg, keys), tuple(given), (*shared, *given), cfg, needs)


def with_folders(override: str, before: Mapping[str, Stage]) -> str:
    """An override with the folders of the stages that it refers to."""
    if not REFERENCE.search(override):
        return override
    (found,) = parse([override])
    if found.is_sweep_override():
        return override  # which no stage takes
    paths = {f"${{stage:{name}}}": stage.at for name, stage in before.items()}
    return f"{override.partition('=')[0]}={written(with_paths(found.value(), paths))}"


def key_of(cfg: Mapping[str, Any], folders: Mapping[str, str]) -> str:
    """A digest of the settings on which the result of a stage depends.

    Args:
        cfg: its configuration.
        folders: the folders of earlier stages, with their keys, which take their places.
    """
    text = json.dumps([(path, value) for path, value in leaves(cfg) if counts(path)])
    keys = {json.dumps(folder)[1:-1]: key for folder, key in folders.items()}
    return hashlib.sha256(with_paths(text, keys).encode()).hexdigest()[:10]


def counts(path: str) -> bool:
    """Whether the result of a stage depends on a setting."""
    if path.partition(".")[0] == "stages":
        return False
    return not is_free(path) or any(path == key or path.startswith(f"{key}.") for key in COUNTING)


def done_in(folder: Path) -> dict[str, Path]:
    """The folders of the finished stages of an earlier run of stages, by their keys.

    Raises:
        ValueError: the folder holds none.
    """
    return {stage.key: stage.folder for stage in read_stages(folder, f"stages.done={folder}") if finished(stage.folder)}


def chosen(node: Mapping[str, Any], planned: Mapping[str, Stage], done: Mapping[str, Path]) -> list[Stage]:
    """The stages that ``stages.only`` and ``stages.from`` leave, after those that they need.

    Raises:
        ValueError: a stage that they need has not run.
    """
    names, only, first = list(planned), node.get("only"), node.get("from")
    runs = [only] if only else names[names.index(first) :] if first else names
    needed = set(runs)
    for name in reversed(names):
        needed |= set(planned[name].needs) if name in needed else set()
    for name in names:
        if name in needed and name not in runs and planned[name].key not in done:
            raise ValueError(missing(node, planned, name, f"stages.{'only' if only else 'from'}={only or first}"))
    return [planned[name] for name in names if name in needed]


def missing(node: Mapping[str, Any], planned: Mapping[str, Stage], name: str, typed: str) -> str:
    """What to say where a stage that another needs has not run with this configuration."""
    if node.get("done") is None:
        return f"{typed} needs the stage {name} of an earlier run. Type stages.done=RUN, or leave {typed} out."
    ran = {stage.name: stage for stage in read_stages(Path(str(node["done"])), "stages.done")}
    if name not in ran:
        return f"stages.done={node['done']} has no stage {name}, which {typed} needs. Leave {typed} out."
    if not finished(ran[name].folder):
        return f"stages.done={node['done']}: its stage {name} is not finished. Type resume={node['done']} first."
    mine, theirs = (with_paths(of[name].cfg, {stage.at: stage.name for stage in of.values()}) for of in (planned, ran))
    other = {path: pair for path, pair in differences(mine, theirs).items() if counts(path)}
    path, (here, there) = next(iter(other.items()), ("its earlier stages", ("other ones", "other ones")))
    return (
        f"stages.done={node['done']}: its stage {name} is another: {path} is {there} there and {here} here. "
        f"Repeat its settings, or leave {typed} out."
    )
