"""The record of a run of stages: what each stage is, and the list of them in the folder of the run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mltricks.config.stages import LIST
from mltricks.process.atomic import write_atomically


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
        trial = next((inner for inner in sorted(folder.glob("*")) if (inner / LIST).is_file()), None)
        advice = "" if trial is None else f" That in {trial} is one."
        raise ValueError(f"{what}: {folder} holds no run of stages, which has a {LIST}.{advice}")
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
