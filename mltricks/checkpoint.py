"""Checkpoints: the state, the configuration and the versions, in one file that is whole or not there."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import torch

from mltricks import __version__
from mltricks.atomic import write_atomically
from mltricks.state import State, map_state

FORMAT = 1


def versions() -> dict[str, str]:
    """The versions a result depends on."""
    return {"mltricks": __version__, "torch": str(torch.__version__), "python": sys.version.split()[0]}


def save(path: Path, state: State, cfg: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        ValueError: the disk is full or the file cannot be written; the last checkpoint is intact.
    """
    content = {
        "format": FORMAT,
        "state": map_state(lambda t: t.detach().to("cpu", copy=True), state),
        "config": json.dumps(cfg),
        "versions": versions(),
    }
    try:
        write_atomically(path, lambda partial: torch.save(content, partial))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"the checkpoint {path} could not be written: {error}. The last good checkpoint is intact; free some space.") from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint: ``state``, ``config`` and ``versions``.

    Args:
        path: the file, or the output folder it lies in.

    Raises:
        ValueError: there is none, it is damaged, or it was written by another version of the format.
    """
    path = path / "checkpoints" / "last.pt" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"there is no checkpoint at {path}. Give the output folder of a run, which holds checkpoints/last.pt.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise ValueError(f"the checkpoint {path} is damaged or is no checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"{path} is no checkpoint of mltricks.")
    if content["format"] != FORMAT:
        raise ValueError(
            f"the checkpoint {path} has format {content['format']}; this version of mltricks ({__version__}) reads format {FORMAT}. "
            f"It was written by mltricks {content['versions'].get('mltricks')}: install that version."
        )
    return {**content, "config": json.loads(content["config"])}


def restore(saved: State, built: State, path: Path) -> State:
    """The saved state, moved to where the built one lies, after a check that it belongs to the same run.

    Raises:
        ValueError: a tensor is missing, unknown or has another shape.
    """
    mine, theirs = dict(_named(built)), dict(_named({k: v for k, v in saved.items() if k != "host"}))
    for name in mine.keys() ^ theirs.keys():
        where = "the checkpoint" if name in theirs else "the model"
        raise ValueError(f"{path} belongs to another model or stack: only {where} has {name}.")
    for name, tensor in mine.items():
        if tensor.shape != theirs[name].shape:
            shapes = f"{tuple(theirs[name].shape)} in the checkpoint, {tuple(tensor.shape)} in the model"
            raise ValueError(f"{path} belongs to another model: {name} has shape {shapes}.")
    device = built["step"].device
    return map_state(lambda t: t.to(device), saved)


def _named(tree: Any, prefix: str = "") -> Any:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _named(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
