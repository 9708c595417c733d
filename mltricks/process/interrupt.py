"""Stopping when asked to: SIGTERM and Ctrl-C let the step in hand end, so that the run can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

EXIT_STATUS: dict[int, int] = {signal.SIGTERM: 75, signal.SIGINT: 130}


class Terminated(SystemExit):
    """SIGTERM arrived where there is nothing to save; ends the process with its exit status."""

    def __init__(self) -> None:
        super().__init__(EXIT_STATUS[signal.SIGTERM])


class _Last:
    """The signal that stopped something at once, if any: libraries turn what a handler raises into errors of theirs."""

    signal: int | None = None


def stop_now(number: int, frame: FrameType | None = None) -> NoReturn:
    """A signal handler that stops at once, as Python's own does for Ctrl-C."""
    _Last.signal = number
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def stopped_by() -> int | None:
    """The signal that ``stop_now`` has met, whatever error has become of it since."""
    return _Last.signal


class Interrupt:
    """Inside the ``with`` block a first signal is noted in ``signal``; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}
        self._noting = True

    def __enter__(self) -> Interrupt:
        _Last.signal = None
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_STATUS:
                self._before[number] = signal.signal(number, self._note)
        return self

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside this block a signal stops at once: there is nothing that would have to be saved."""
        self._noting = False
        try:
            yield
            if _Last.signal is not None:  # swallowed on its way, by a finaliser or a bare except
                stop_now(_Last.signal)
        finally:
            self._noting = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._noting or (self.signal is not None and number == signal.SIGINT):
            stop_now(number)
        self.signal = number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
