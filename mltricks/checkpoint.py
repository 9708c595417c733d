"""Checkpoints: state, configuration and versions in one file, written atomically."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mltricks import __version__
from mltricks.config.newer import with_newer
from mltricks.process.atomic import first_line, write_atomically
from mltricks.state import State, map_state, named_leaves

FORMAT = 3
LAST = Path("checkpoints/last.pt")
"""Path of the checkpoint inside an output folder."""
PREVIOUS = "previous.pt"
"""Name of the second-last checkpoint beside ``last.pt``: the fallback when that one is damaged."""


def versions() -> dict[str, str]:
    """Versions of the software that a result depends on."""
    return {"mltricks": __version__, "torch": str(torch.__version__), "python": sys.version.split()[0]}


def save(path: Path, state: State, cfg: dict[str, Any], overrides: Sequence[str] = ()) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file.
        state: every tensor of the run.
        cfg: the resolved configuration.
        overrides: from the command that started the run; only recorded.

    Raises:
        NotWritten: the disk is full or the file is not writable; the previous checkpoint is intact.
    """
    content = {
        "format": FORMAT,
        "state": map_state(lambda t: t.detach().to("cpu", copy=True), state),
        "config": json.dumps(cfg),
        "overrides": list(overrides),
        "versions": versions(),
    }
    content["state_digest"] = digest(content["state"])
    content["digest"] = digest_beside_state(content)
    write_atomically(path, lambda partial: torch.save(content, partial), keep=path.with_name(PREVIOUS))


def digest(content: Mapping[str, Any]) -> str:
    """The BLAKE2b hash of nested dicts of tensors and plain values; it covers names, types, shapes and bytes.

    >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.zeros(2)})
    True
    >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.tensor([0.0, 1e-45])})
    False
    """
    state = hashlib.blake2b(digest_size=16)
    for name, value in sorted(named_leaves(content), key=lambda item: item[0]):
        if isinstance(value, torch.Tensor):
            state.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            state.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            state.update(f"{name} {value!r}".encode())
    return state.hexdigest()


def digest_beside_state(content: Mapping[str, Any]) -> str:
    """The hash of a checkpoint's content without its tensors; ``state_digest``, a part of it, is theirs."""
    return digest({key: value for key, value in content.items() if key not in ("state", "digest")})


def damaged(path: Path, reason: str) -> ValueError:
    """The error for a damaged checkpoint; it says how to restore the one before."""
    previous = path.with_name(PREVIOUS)
    way = "Restore the file from a backup, or train again."
    if path.name == LAST.name and is_whole(previous):
        way = f"The checkpoint before it is {previous}: move it to {path}, and resume continues from there."
    return ValueError(f"the checkpoint {path} is damaged{reason}. {way}")


def is_whole(path: Path) -> bool:
    """Whether a checkpoint exists and can be read."""
    try:
        return bool(load(path))
    except ValueError:
        return False


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint: ``state``, ``config``, ``overrides`` and ``versions``.

    Args:
        path: the file, or its output folder.

    Raises:
        ValueError: the checkpoint is missing, damaged, or in another version of the format.
    """
    return _read(path, tensors=True)


def load_config(path: Path) -> dict[str, Any]:
    """The configuration in a checkpoint. Raises the errors of ``load``, but does not verify the tensors."""
    return _read(path, tensors=False)["config"]


def load_host(path: Path) -> dict[str, Any]:
    """What the host side of a run keeps in its checkpoint. Raises the errors of ``load``; tensors are not verified."""
    return dict(_read(path, tensors=False)["state"]["host"])


def _read(path: Path, tensors: bool) -> dict[str, Any]:
    """Read and verify a checkpoint; without ``tensors`` these stay in the file, unread and unverified."""
    path = path / LAST if path.is_dir() else path
    if not path.is_file():
        raise ValueError(
            f"there is no checkpoint at {path}. Give the output folder of a run, which holds checkpoints/last.pt."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=not tensors)
    except MemoryError:
        raise
    except PermissionError as error:
        raise ValueError(f"the checkpoint {path} cannot be read: {error.strerror}. Change its permissions.") from error
    except Exception as error:  # unpickling a damaged file can raise anything, with advice about torch's own options
        raise damaged(path, " or is no checkpoint") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ValueError(f"{path} is no checkpoint of mltricks.")
    if content["format"] != FORMAT:
        known = content.get("versions")
        author = known.get("mltricks", "unknown") if isinstance(known, dict) else "unknown"
        way = "Train again" if author == __version__ else f"Install the version that wrote it, {author}, or train again"
        raise ValueError(
            f"the checkpoint {path} has format {content['format']}, and this mltricks reads format {FORMAT}. {way}."
        )
    try:
        if content["digest"] != digest_beside_state(content):
            raise ValueError("its content does not match its hash")
        if tensors and content["state_digest"] != digest(content["state"]):
            raise ValueError("its tensors do not match their hash")
        assert {"params", "buffers", "opt", "own", "step"} <= content["state"].keys(), "parts of the state are missing"
        return {**content, "config": with_newer(json.loads(content["config"])), "overrides": list(content["overrides"])}
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        raise damaged(path, f": {first_line(error)}") from error


def restore(saved: State, built: State, path: Path) -> State:
    """Check that the saved state fits the newly built one, and move it to its devices.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape or dtype.
    """
    mine, theirs = dict(named_leaves(built)), dict(named_leaves({k: v for k, v in saved.items() if k != "host"}))
    for name in sorted(mine.keys() ^ theirs.keys()):
        where = "the checkpoint" if name in theirs else "the model"
        raise ValueError(f"{path} belongs to another model or other techniques: only {where} has {name}.")
    for name, tensor in mine.items():
        if (tensor.shape, tensor.dtype) != (theirs[name].shape, theirs[name].dtype):
            there, here = (f"{tuple(t.shape)} {t.dtype}" for t in (theirs[name], tensor))
            raise ValueError(
                f"{path} belongs to another model: {name} is {there} in the checkpoint and {here} in the model."
            )
    device = built["step"].device
    moved = map_state(lambda t: t.to(device), {key: value for key, value in saved.items() if key != "host"})
    if "host" in saved:  # stays on the CPU, apart from the window: its numbers are float64, which MPS lacks
        window = map_state(lambda t: t.to(device), saved["host"]["window"])
        moved["host"] = {**saved["host"], "window": window}
    return moved
