"""A worker process: runs units of jobs until it is told to end. No worker outlives the sweep, whatever ends that.

Deviation: a worker leads a process group of its own, so that Ctrl-C on the terminal reaches the sweep alone, which then
asks its workers to save.
"""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from mltricks.launch.leases import Slot
from mltricks.process.interrupt import EXIT_STATUS, stop_now

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""What libraries read of how many threads they may use."""
PARENT_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of ``prctl`` on Linux."""


class WorkerError(Exception):
    """What became of a job in a worker, where the error itself cannot travel or there is none: the worker was lost."""


def serve(
    slot: Slot,
    environment: dict[str, str],
    work: Callable[[Any], Sequence[Any]],
    link: Connection,
    streams: Sequence[Connection],
) -> None:
    """Run the units that come, and send what came of each, pickled; the body of a worker process.

    Args:
        slot: where it computes.
        environment: of the sweep's process.
        work: gives the ``JobReturn`` of every job of a unit.
        link: brings units, the last of them ``None``, and takes the answers.
        streams: take standard output and standard error; none: they are those of the sweep.
    """
    end_with_parent()
    for number in EXIT_STATUS:
        signal.signal(number, stop_now)
    for stream, descriptor in zip(streams, (1, 2), strict=False):
        os.dup2(stream.fileno(), descriptor)
        stream.close()
    for text in (sys.stdout, sys.stderr):
        text.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
    take_slot(slot, environment)
    try:
        with suppress(EOFError):
            while (unit := link.recv()) is not None:
                link.send_bytes(portable(list(work(unit))))
    except KeyboardInterrupt:
        sys.exit(EXIT_STATUS[signal.SIGINT])


def take_slot(slot: Slot, environment: dict[str, str]) -> None:
    """Take the sweep's environment, the slot's GPU and threads, before any library has asked for more."""
    os.environ.clear()
    os.environ.update(environment | {name: str(slot.threads) for name in THREADS})
    if slot.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
    if slot.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slot.cores)
    import torch

    torch.set_num_threads(slot.threads)


def end_with_parent() -> None:
    """Make sure that this process ends when the sweep's does, however that ended, and that its children do too."""
    if hasattr(os, "setsid"):
        os.setsid()
    if sys.platform == "linux":  # the server that forked this process ends with the sweep
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    wait([parent.sentinel])
    if hasattr(os, "killpg"):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os._exit(1)


def portable(returns: list[Any]) -> bytes:
    """The returns of jobs, pickled such that the sweep's process can read them.

    An error that cannot be pickled, or not be read back, becomes a ``WorkerError`` with its type and message; a value
    that cannot travel becomes ``None``.
    """
    for job_return in returns:
        value = job_return._return_value
        if not travels(value):
            text = f"{type(value).__name__}: {value}".rstrip(": ")
            job_return._return_value = WorkerError(text) if isinstance(value, BaseException) else None
    return pickle.dumps(returns)


def travels(value: Any) -> bool:
    """Whether a value can be pickled and read back: some errors fail only there, as they want more arguments."""
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:
        return False
    return True
