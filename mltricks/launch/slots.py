"""A pool of worker processes: each slot runs one unit of jobs at a time, and a free slot takes the next unit.

A server that has imported torch forks workers in milliseconds. A GPU slot gets a new worker for every unit, which
frees all GPU memory that a job leaves behind. A CPU slot keeps its worker, which is already warm. A worker that dies
loses only its own unit.

Cost: one import of torch for all workers, in parallel to the sweep's own process; then about 20 ms per worker.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any, TextIO

from mltricks.launch.job import Job
from mltricks.launch.leases import Slot
from mltricks.launch.lost import lost
from mltricks.launch.worker import THREADS, serve
from mltricks.process.interrupt import Interrupt, stop_now

PRELOAD = "mltricks.launch.preload"
POLL_S = 0.1
"""Seconds between checks for a signal."""
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
}
"""Make glibc keep freed memory for the next step's activations: convolutions gain 10 to 25 %."""

Unit = Sequence[Job]
Work = Callable[[Unit], Sequence[Any]]


def run_in_slots(
    units: Iterable[Unit], slots: Sequence[Slot], work: Work, tell: Callable[[Unit, list[Any]], None]
) -> list[list[Any]]:
    """Run units in worker processes; return their ``JobReturn`` lists in the order of the units.

    Args:
        units: groups of jobs that run together; an iterator is advanced only when a slot becomes free.
        slots: the slots, from ``choose_workers``.
        work: runs a unit in the worker and returns a ``JobReturn`` for each of its jobs. It is pickled, so it must be
            a function of a module other than ``__main__``, or a ``functools.partial`` of one.
        tell: called in this process with each unit and its returns as it ends.

    Raises:
        KeyboardInterrupt, SystemExit: on Ctrl-C or SIGTERM, after the workers have saved and ended. A second Ctrl-C
            kills them at once.
    """
    start_server()
    pool = _Pool(slots, work)
    results: list[tuple[int, list[Any]]] = []
    waiting = enumerate(units)
    with Interrupt() as interrupt:
        try:
            pool.fill(waiting)
            while pool.busy():
                for index, unit, returns in pool.ended():
                    results.append((index, returns))
                    tell(unit, returns)
                if interrupt.signal is not None:
                    pool.stop()
                else:
                    pool.fill(waiting)
            pool.close()
        finally:
            pool.kill()
    if interrupt.signal is not None:
        stop_now(interrupt.signal)
    return [returns for _, returns in sorted(results, key=lambda pair: pair[0])]


def start_server() -> None:
    """Start the server that imports torch and forks workers, unless it runs already; do not wait for it."""
    context = multiprocessing.get_context(method())
    if method() == "forkserver":
        context.set_forkserver_preload([PRELOAD])
        with (
            _environment({name: "1" for name in THREADS} | MALLOC),  # a process of several threads cannot fork safely
            _ignored(signal.SIGINT),  # a terminal sends Ctrl-C to the server too, which would die while it imports
        ):
            forkserver.ensure_running()


def method() -> str:
    """The start method of workers: forked from a server, or spawned if the system has no fork."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@contextmanager
def _ignored(number: int) -> Iterator[None]:
    """Ignore a signal in this process and those started meanwhile; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Pool:
    """The slots and their workers."""

    def __init__(self, slots: Sequence[Slot], work: Work):
        self.slots, self.work = list(slots), work
        self.workers: dict[Slot, _Worker] = {}
        self.stopping = False

    def busy(self) -> bool:
        return any(worker.unit is not None or worker.leaving for worker in self.workers.values())

    def fill(self, waiting: Iterator[tuple[int, Unit]]) -> None:
        """Give each free slot a unit while there are any."""
        for slot in self.slots:
            worker = self.workers.get(slot)
            if worker is not None and (worker.unit is not None or worker.leaving):
                continue
            index, unit = next(waiting, (-1, None))
            if unit is None:
                return
            if worker is None:
                worker = self.workers[slot] = _Worker(slot, self.work)
            worker.take(index, unit)

    def ended(self) -> list[tuple[int, Unit, list[Any]]]:
        """Wait up to ``POLL_S``; return the units that have ended, with their returns."""
        ready = set(wait([source for worker in self.workers.values() for source in worker.sources()], POLL_S))
        done: list[tuple[int, Unit, list[Any]]] = []
        for slot, worker in list(self.workers.items()):
            index, unit = worker.index, worker.unit
            returns = worker.read(ready)
            if worker.ended:
                del self.workers[slot]
            if unit is not None and returns is not None and not (self.stopping and worker.lost):
                done.append((index, unit, returns))
        return done

    def stop(self) -> None:
        """Ask the workers, once, to save and end."""
        for worker in [] if self.stopping else self.workers.values():
            worker.leaving = True
            worker.process.terminate()
        self.stopping = True

    def close(self) -> None:
        """End the idle workers, and wait for them."""
        for worker in self.workers.values():
            worker.leave()
        while self.workers:
            self.ended()

    def kill(self) -> None:
        """Kill all remaining workers and their children."""
        for worker in self.workers.values():
            worker.kill()


class _Worker:
    """The sweep's handle of a worker process.

    Attributes:
        unit: the unit it runs; ``None`` while it is idle.
        leaving: whether it was told to end.
        ended: whether it has ended.
        lost: whether it died before its unit was done.
    """

    def __init__(self, slot: Slot, work: Work):
        context = multiprocessing.get_context(method())
        self.slot, self.index = slot, -1
        self.unit: Unit | None = None
        self.leaving = self.ended = self.lost = False
        self.link, theirs = context.Pipe()
        pipes = [context.Pipe(duplex=False) for _ in range(2)] if method() == "forkserver" else []
        self.streams = [_Lines(pipe, to) for (pipe, _), to in zip(pipes, (sys.stdout, sys.stderr), strict=False)]
        writers = [writer for _, writer in pipes]
        self.process = context.Process(target=serve, args=(slot, dict(os.environ), work, theirs, writers))  # type: ignore[attr-defined]
        with suppress(BrokenPipeError):  # it died at once: ``read`` will find that out
            self.process.start()
        for connection in (theirs, *writers):
            connection.close()

    def take(self, index: int, unit: Unit) -> None:
        """Send the worker a unit."""
        self.index, self.unit = index, unit
        with suppress(BrokenPipeError, ConnectionResetError):
            self.link.send(unit)
        if self.slot.fresh:
            self.leave()

    def leave(self) -> None:
        """Tell the worker to end after its unit."""
        self.leaving = True
        with suppress(BrokenPipeError, ConnectionResetError):
            self.link.send(None)

    def sources(self) -> list[Any]:
        """The handles to wait on: the process, its answers and its output."""
        link = [] if self.link.closed else [self.link]
        return [self.process.sentinel, *link, *(lines.pipe for lines in self.streams if not lines.pipe.closed)]

    def read(self, ready: set[Any]) -> list[Any] | None:
        """Read output and answers that have arrived; return the unit's returns if it has ended."""
        ended = self.process.sentinel in ready
        for lines in self.streams:
            if lines.pipe in ready or ended:
                lines.read()
        returns = self._answer() if not self.link.closed and (self.link in ready or ended) else None
        if ended:
            status, said = self._bury()
            if returns is None and self.unit is not None:
                returns, self.lost = lost(self.unit, status, said), True
        if returns is not None:
            self.unit = None
        return returns

    def _answer(self) -> list[Any] | None:
        try:
            return pickle.loads(self.link.recv_bytes()) if self.link.poll() else None
        except (EOFError, OSError):  # the worker closed the link, or died while it sent its answer
            self.link.close()
            return None

    def _bury(self) -> tuple[int | None, str]:
        """Close the worker's handles; return its exit status and the last line of its standard error."""
        self.process.join()
        for lines in self.streams:
            lines.end()
        status, self.ended = self.process.exitcode, True
        self.link.close()
        self.process.close()
        return status, self.streams[1].last if self.streams else ""

    def kill(self) -> None:
        if hasattr(os, "killpg"):  # the worker leads a process group, so this reaches its children
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


class _Lines:
    """Forwards a worker's output line by line, so that lines of different workers do not mix."""

    def __init__(self, pipe: Connection, to: TextIO):
        self.pipe, self.to = pipe, to
        self.rest, self.last = b"", ""
        os.set_blocking(pipe.fileno(), False)  # the pool's loop must never wait for one worker's output

    def read(self) -> None:
        """Forward the complete lines received so far."""
        while not self.pipe.closed:
            try:
                piece = os.read(self.pipe.fileno(), 1 << 16)
            except BlockingIOError:
                break
            if not piece:
                self.pipe.close()
            *whole, self.rest = (self.rest + piece).split(b"\n")
            self._write(whole)

    def end(self) -> None:
        """Forward the last line if it has no newline, and close the pipe."""
        self._write([self.rest] if self.rest else [])
        self.pipe.close()

    def _write(self, lines: list[bytes]) -> None:
        for line in lines:
            text = line.decode(errors="replace")
            self.last = text.strip() or self.last
            print(text, file=self.to, flush=True)
