"""Atomic file writes: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class NotWritten(OSError):
    """A file could not be written, most often because the disk is full. The previous content is intact."""


def write_atomically(path: Path, write: Callable[[Path], object], keep: Path | None = None) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to the disk and rename it to ``path``.

    Args:
        path: the file.
        write: fills the file whose path it is given.
        keep: takes the previous content of ``path``, if there is any.

    Raises:
        NotWritten: the disk is full or the folder is gone. ``path`` is unchanged and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    try:
        write(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _second_name(path, keep)
        os.replace(partial, path)
        flush_folder(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # torch reports a full disk as a RuntimeError, safetensors as an error class of its own
        if isinstance(error, OSError | RuntimeError) or type(error).__module__.startswith("safetensors"):
            raise NotWritten(f"{path} cannot be written: {first_line(error)}") from error
        raise


def _second_name(path: Path, keep: Path) -> None:
    """Let ``keep`` name the file at ``path``, which stays: at every moment one of the two names holds a whole file."""
    keep.unlink(missing_ok=True)
    try:
        os.link(path, keep)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EXDEV):
            raise
        shutil.copyfile(path, keep)  # the file system has no hard links


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of files: without it a power failure can undo the rename."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def partial_of(path: Path) -> Path:
    """The temporary file of this process beside ``path``: its name says whose it is."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")


def remove_partial(folder: Path, shared: bool = False) -> None:
    """Remove the temporary files that killed writers left in a folder.

    Args:
        folder: where they may lie.
        shared: whether other processes may be writing there now: only files of dead processes of this host are removed.
    """
    for partial in folder.glob(".*.partial"):
        host, _, number = partial.name.removesuffix(".partial").rpartition(".")
        dead = host.endswith(f".{socket.gethostname()}") and number.isdigit() and not _is_alive(int(number))
        if dead or not shared:
            partial.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


class Occupied(ValueError):
    """Another process works in a folder."""


@contextmanager
def alone_in(folder: Path, shared: bool = False) -> Iterator[None]:
    """Inside this block no other process trains in a folder; the lock ends with the process, however it ends.

    Args:
        folder: of a run.
        shared: whether others may look in this way too.

    Raises:
        Occupied: another process does.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)  # a lock on the folder itself leaves no file behind
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Occupied(
                f"another process trains in {folder}. Wait for it, or type another hydra.run.dir."
            ) from error
        yield
    finally:
        os.close(handle)


def check_alone(folder: Path) -> None:
    """Raise the error of ``alone_in`` if another process trains in a folder now."""
    if folder.is_dir():
        with alone_in(folder, shared=True):
            pass


def remove_empty(folder: Path) -> None:
    """Remove an empty folder, and the folders above it that are empty then, up to the working directory."""
    folder = folder.absolute()
    with suppress(OSError):  # the first that holds something ends it
        while folder.is_relative_to(Path.cwd()) and folder != Path.cwd():
            folder.rmdir()
            folder = folder.parent


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
