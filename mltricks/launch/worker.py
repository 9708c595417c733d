"""A worker process: runs units of jobs until the sweep tells it to end, and never outlives the sweep.

A worker leads its own process group, so that Ctrl-C on the terminal reaches only the sweep, which then asks its workers
to save.
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
"""Environment variables that set the number of threads of numeric libraries."""
PARENT_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of ``prctl`` on Linux."""


class WorkerError(Exception):
    """The error of a job whose worker died, or whose own error cannot be pickled."""


def serve(
    slot: Slot,
    environment: dict[str, str],
    work: Callable[[Any], Sequence[Any]],
    link: Connection,
    streams: Sequence[Connection],
) -> None:
    """The main function of a worker: receive units, run them and send back their returns.

    Args:
        slot: GPU, cores and threads of the worker.
        environment: environment variables of the sweep's process.
        work: runs a unit and returns the ``JobReturn`` of each job.
        link: connection that brings units, ``None`` after the last, and takes the pickled returns.
        streams: pipes for standard output and standard error; empty: inherit those of the sweep.
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
    """Apply the sweep's environment and the slot's GPU, cores and threads, before any library reads them."""
    os.environ.clear()
    os.environ.update(environment | {name: str(slot.threads) for name in THREADS})
    if slot.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
    if slot.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slot.cores)
    import torch

    torch.set_num_threads(slot.threads)


def end_with_parent() -> None:
    """Make this process and its children die with the sweep's process, however that ends."""
    if hasattr(os, "setsid"):
        os.setsid()
    if sys.platform == "linux":  # the parent is the server, which ends with the sweep
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
    """Pickle the returns of jobs for the sweep's process.

    An error that cannot be pickled and unpickled becomes a ``WorkerError`` with its type and message. Any other value
    that cannot becomes ``None``.
    """
    for job_return in returns:
        value = job_return._return_value
        if not travels(value):
            text = f"{type(value).__name__}: {value}".rstrip(": ")
            job_return._return_value = WorkerError(text) if isinstance(value, BaseException) else None
    return pickle.dumps(returns)


def travels(value: Any) -> bool:
    """Whether a value can be pickled and unpickled. Errors with extra constructor arguments fail at unpickling."""
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:
        return False
    return True
