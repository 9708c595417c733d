"""The plan of a run of stages: the configuration and the folder of each, before the first one starts."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mltricks.config.compose import compose, plain
from mltricks.config.names import with_brackets
from mltricks.config.overrides import parse
from mltricks.config.stages import LIST, check_stages, leaves, stage_names
from mltricks.config.values import UnknownName, suggest
from mltricks.process.atomic import write_atomically
from mltricks.resume import differences, finished, is_free
from mltricks.stages.overrides import overrides_of, written

REFERENCE = re.compile(r"\$\{stage:(\w+)\}")
OF_THE_WHOLE = ("stages", "name", "resume", "overwrite", "show")
"""Keys of the command that no stage receives."""


@dataclass(frozen=True)
class Stage:
    """One run of a run of stages.

    Attributes:
        name: as in the configuration.
        folder: its output folder.
        key: a digest of its configuration; stages of one key have one result.
        overrides: what it sets itself, with the folders of earlier stages in their places.
        command: the overrides with which it is a run of its own.
        cfg: its whole configuration, resolved.
        needs: the names of the earlier stages that it takes something from.
    """

    name: str
    folder: Path
    key: str
    overrides: tuple[str, ...]
    command: tuple[str, ...]
    cfg: dict[str, Any]
    needs: tuple[str, ...] = ()

    @property
    def at(self) -> str:
        """Its folder as other stages name it: a resume may begin in another working directory."""
        return str(self.folder.absolute())


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
    for name in names:
        own = overrides_of(node, name)
        check_conflict(name, shared, own)
        stage = composed(name, [*shared, *(f"~stages.{other}" for other in names)], own, planned, folder)
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
    text = json.dumps(
        [(path, value) for path, value in leaves(cfg) if not is_free(path) and not path.startswith("stages")]
    )
    keys = {json.dumps(folder)[1:-1]: key for folder, key in folders.items()}
    return hashlib.sha256(with_paths(text, keys).encode()).hexdigest()[:10]


def with_paths(value: Any, paths: Mapping[str, str]) -> Any:
    """A value, or what nested dicts and lists hold, with other texts in the places of paths.

    >>> with_paths({"teacher": "run/a+run/ab"}, {"run/a": "x", "run/ab": "y"})
    {'teacher': 'x+y'}
    """
    if isinstance(value, Mapping):
        return {key: with_paths(inner, paths) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_paths(inner, paths) for inner in value)
    if not isinstance(value, str) or not paths:
        return value
    longest_first = sorted(paths, key=len, reverse=True)  # the path of the stage teacher begins that of teacher2
    found = "|".join(map(re.escape, longest_first))
    return re.sub(found, lambda match: paths[match[0]], value)


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
            raise ValueError(missing(node, planned[name], f"stages.{'only' if only else 'from'}={only or first}"))
    return [planned[name] for name in names if name in needed]


def missing(node: Mapping[str, Any], stage: Stage, typed: str) -> str:
    """What to say where a stage that another needs has not run with this configuration."""
    if node.get("done") is None:
        return f"{typed} needs the stage {stage.name} of an earlier run. Type stages.done=RUN, or leave {typed} out."
    theirs = next((s for s in read_stages(Path(str(node["done"])), "stages.done") if s.name == stage.name), None)
    if theirs is None:
        return f"stages.done={node['done']} has no stage {stage.name}, which {typed} needs. Leave {typed} out."
    if not finished(theirs.folder):
        return f"stages.done={node['done']}: its stage {stage.name} is not finished. Type resume={node['done']} first."
    other = {p: pair for p, pair in differences(stage.cfg, theirs.cfg).items() if not is_free(p)}
    path, (mine, there) = next(iter(other.items()), ("its earlier stages", ("other ones", "other ones")))
    return (
        f"stages.done={node['done']}: its stage {stage.name} is another: {path} is {there} there and {mine} here. "
        f"Repeat its settings, or leave {typed} out."
    )


def write_stages(folder: Path, stages: Sequence[Stage]) -> None:
    """Write the list of the stages, and the configuration of each that has none yet."""
    from mltricks.observers.files import yaml_text

    listed = [
        {
            "name": stage.name,
            "folder": os.path.relpath(stage.folder, folder),
            "at": stage.at,
            "key": stage.key,
            "overrides": list(stage.overrides),
            "command": list(stage.command),
            "needs": list(stage.needs),
        }
        for stage in stages
    ]
    for stage in stages:
        path, text = stage.folder / "config.yaml", yaml_text(stage.cfg)
        if not path.is_file():
            write_text(path, text)
    write_text(folder / LIST, json.dumps(listed, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def read_stages(folder: Path, what: str) -> list[Stage]:
    """The stages of an earlier run of stages, with the configurations that they began with.

    Where the run was moved, the configurations name the folders of earlier stages where they are now.

    Args:
        folder: of the run of stages.
        what: how the user named it, for messages.

    Raises:
        ValueError: the folder holds no run of stages, or a damaged list of them.
    """
    from mltricks.resume import saved_config

    path = folder / LIST
    if not path.is_file():
        raise ValueError(f"{what}: {folder} holds no run of stages, which has a {LIST}.")
    try:
        listed = json.loads(path.read_text())
        found = [
            Stage(
                str(entry["name"]),
                Path(os.path.normpath(folder / entry["folder"])),
                str(entry["key"]),
                tuple(entry["overrides"]),
                tuple(entry["command"]),
                {},
                tuple(entry["needs"]),
            )
            for entry in listed
        ]
        moves = {str(entry["at"]): stage.at for entry, stage in zip(listed, found, strict=True)}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}). Start the run of stages again.") from error
    texts = [with_paths((stage.overrides, stage.command), moves) for stage in found]
    return [
        replace(stage, cfg=with_paths(saved_config(stage.folder), moves), overrides=overrides, command=command)
        for stage, (overrides, command) in zip(found, texts, strict=True)
    ]
