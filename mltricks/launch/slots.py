"""Units of jobs in worker processes, as many at a time as there are slots; a free slot takes the next unit at once.

Workers are forked in milliseconds from a server that has imported torch. A slot of a GPU has a new one for every unit,
so that what a job leaves behind in the GPU's memory goes with it; a slot of cores keeps its worker, which is warm from
the unit before. A worker that is killed costs its own unit and no other.

Cost: one import of torch for all workers, beside the work of the sweep's own process; then about 20 ms a worker.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
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
"""Seconds between two looks at whether a signal has come."""
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
}
"""Keeps the memory of activations between steps instead of giving it back: 10 to 25 % on convolutions (glibc)."""

Unit = Sequence[Job]
Work = Callable[[Unit], Sequence[Any]]


def run_in_slots(
    units: Iterable[Unit], slots: Sequence[Slot], work: Work, tell: Callable[[Unit, list[Any]], None]
) -> list[list[Any]]:
    """Run units in worker processes; their ``JobReturn`` lists, in the order of the units.

    Args:
        units: jobs that belong together; taken one by one as slots become free, so that an iterator may decide late.
        slots: where to run, from ``choose_workers``.
        work: runs a unit in the worker and returns a ``JobReturn`` for each of its jobs. It is pickled, so it is a
            function of a module, or a ``functools.partial`` of one; not of ``__main__``.
        tell: called in this process with every unit as it ends.

    Raises:
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM came; the workers have saved and ended. A second Ctrl-C ends
            them at once.
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
    """Start the process that imports torch and forks workers, without waiting for it; nothing where there is one."""
    context = multiprocessing.get_context(method())
    if method() == "forkserver":
        context.set_forkserver_preload([PRELOAD])
        with _environment({name: "1" for name in THREADS} | MALLOC):  # one thread: a process with more cannot fork
            forkserver.ensure_running()


def method() -> str:
    """How workers are started here: forked from a server, or where the system has no fork, each anew."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


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
    """The slots, and the workers in them."""

    def __init__(self, slots: Sequence[Slot], work: Work):
        self.slots, self.work = list(slots), work
        self.workers: dict[Slot, _Worker] = {}
        self.stopping = False

    def busy(self) -> bool:
        return any(worker.unit is not None or worker.leaving for worker in self.workers.values())

    def fill(self, waiting: Iterator[tuple[int, Unit]]) -> None:
        """Give every free slot a unit, as long as there are any."""
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
        """Wait a moment; the units that have come to their end, with what came of them."""
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
        """Let the workers end that wait for a unit."""
        for worker in self.workers.values():
            worker.leave()
        while self.workers:
            self.ended()

    def kill(self) -> None:
        """End the workers that are left, and their children, at once."""
        for worker in self.workers.values():
            worker.kill()


class _Worker:
    """A worker process as the sweep sees it.

    Attributes:
        unit: what it runs; ``None``: it waits for one.
        leaving: it has been told to end.
        ended: it has.
        lost: it ended in the midst of its unit.
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
        with suppress(BrokenPipeError):  # it has died already, and is found dead
            self.process.start()
        for connection in (theirs, *writers):
            connection.close()

    def take(self, index: int, unit: Unit) -> None:
        """Give it a unit."""
        self.index, self.unit = index, unit
        with suppress(BrokenPipeError, ConnectionResetError):
            self.link.send(unit)
        if self.slot.fresh:
            self.leave()

    def leave(self) -> None:
        """Tell it to end after its unit."""
        self.leaving = True
        with suppress(BrokenPipeError, ConnectionResetError):
            self.link.send(None)

    def sources(self) -> list[Any]:
        """What to wait for."""
        link = [] if self.link.closed else [self.link]
        return [self.process.sentinel, *link, *(lines.pipe for lines in self.streams if not lines.pipe.closed)]

    def read(self, ready: set[Any]) -> list[Any] | None:
        """Take in what has come; the returns of the unit, where it has come to its end."""
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
        except (EOFError, OSError):  # it has closed the link, or died in the midst of its answer
            self.link.close()
            return None

    def _bury(self) -> tuple[int | None, str]:
        """Clear up after it; its exit status, and the last line of standard error."""
        self.process.join()
        for lines in self.streams:
            lines.end()
        status, self.ended = self.process.exitcode, True
        self.link.close()
        self.process.close()
        return status, self.streams[1].last if self.streams else ""

    def kill(self) -> None:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


class _Lines:
    """Passes on what a worker writes, in whole lines."""

    def __init__(self, pipe: Connection, to: TextIO):
        self.pipe, self.to = pipe, to
        self.rest, self.last = b"", ""
        os.set_blocking(pipe.fileno(), False)

    def read(self) -> None:
        """Pass on the lines that are there."""
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
        """Pass on a last line that has no end."""
        self._write([self.rest] if self.rest else [])
        self.pipe.close()

    def _write(self, lines: list[bytes]) -> None:
        for line in lines:
            text = line.decode(errors="replace")
            self.last = text.strip() or self.last
            print(text, file=self.to, flush=True)
