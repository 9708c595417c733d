"""The training process's end of the process that sends to W&B.

One process serves all runs of a training process. A thread writes to it, so that a slow server, or a dead process,
never makes the training wait. It lies in a session of its own: Ctrl-C and the kill of a worker do not reach it, and it
finishes its runs when its input ends, however the training process ended.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.util import Finalize
from queue import SimpleQueue
from typing import Any

BEGIN = "import json, sys; sys.path[:], sys.argv[:] = json.loads(sys.argv[1]); "
CODE = BEGIN + "from mltricks.observers.wandb_sender.sender import main; main()"
ENDED = "the process that sends has ended"


class Link:
    """A running sender.

    Attributes:
        pid: the process that started it; a forked child must start its own.
        told: by run, what the sender reported and nobody has read yet: a kind and a text. ``offline``: why the run is
            recorded offline; ``remark``: what was left out; ``error``: why nothing more is sent.
        ended: the runs that it has finished, or given up.
    """

    def __init__(self) -> None:
        self.pid, self.told, self.ended = os.getpid(), {}, set()  # type: ignore[var-annotated]
        self.begun: set[str] = set()
        self.changed = threading.Condition()
        self.queue: SimpleQueue[Any] = SimpleQueue()
        given = json.dumps([[path or os.getcwd() for path in sys.path], sys.argv])
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for work in (self._write, self._read):
            threading.Thread(target=work, daemon=True).start()

    def alive(self) -> bool:
        """Whether this process may still hand runs to the sender."""
        return self.pid == os.getpid() and self.process.poll() is None

    def put(self, run: str, what: str, **content: Any) -> None:
        """Hand something over; never blocks.

        Args:
            run: key of the run, its output folder.
            what: ``begin``, ``log``, ``summary`` or ``finish``.
            content: arguments of the sender's function of that name.
        """
        if what == "begin":
            with self.changed:
                self.ended.discard(run)
                self.begun.add(run)
        self.queue.put((what, run, content))

    def news(self, run: str) -> list[tuple[str, str]]:
        """What the sender reported about a run since the last call: pairs of a kind and a text."""
        with self.changed:
            return self.told.pop(run, [])

    def wait(self, run: str, timeout_s: float) -> bool:
        """Wait until a run is finished; whether it is."""
        with self.changed:
            return self.changed.wait_for(lambda: run in self.ended, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Let the sender finish its runs and end."""
        self.queue.put(None)
        if self.pid == os.getpid():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout_s)

    def _write(self) -> None:
        assert self.process.stdin is not None, "it is a pipe"
        with suppress(OSError), self.process.stdin as pipe:
            while (message := self.queue.get()) is not None:
                pickle.dump(message, pipe)
                pipe.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None, "it is a pipe"
        with self.process.stdout as lines:
            for line in lines:
                self._note(*json.loads(line))
        for run in self.begun - self.ended:
            self._note(run, "error", ENDED)

    def _note(self, run: str, kind: str, text: str) -> None:
        with self.changed:
            if kind != "ended":
                self.told.setdefault(run, []).append((kind, text))
            if kind in ("ended", "error"):
                self.ended.add(run)
            self.changed.notify_all()


_link: Link | None = None


def link(timeout_s: float) -> Link:
    """The sender of this process, started if there is none.

    Args:
        timeout_s: longest wait for it in seconds when this process ends.
    """
    global _link
    if _link is None or not _link.alive():
        _link = Link()
        closing: Callable[..., None] = _link.close
        Finalize(None, closing, args=(timeout_s,), exitpriority=10)  # also at the end of a process of multiprocessing
    return _link
