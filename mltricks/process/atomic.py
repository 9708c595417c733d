"""Atomic file writes: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class NotWritten(OSError):
    """A file could not be written, most often because the disk is full. The previous content is intact."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to the disk and rename it to ``path``.

    Raises:
        NotWritten: the disk is full or the folder is gone. ``path`` is unchanged and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        flush_folder(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # torch reports a full disk as a RuntimeError, safetensors as an error class of its own
        if isinstance(error, OSError | RuntimeError) or type(error).__module__.startswith("safetensors"):
            raise NotWritten(f"{path} cannot be written: {first_line(error)}") from error
        raise


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of files: without it a power failure can undo the rename."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(folder: Path) -> None:
    """Remove the temporary files that killed writers left in a folder."""
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
