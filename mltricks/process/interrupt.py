"""Signals: after SIGTERM or Ctrl-C the current step is finished, so that the run can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

EXIT_STATUS: dict[int, int] = {signal.SIGTERM: 75, signal.SIGINT: 130}


class Terminated(SystemExit):
    """SIGTERM arrived while there was nothing to save: ends the process with exit status 75."""

    def __init__(self) -> None:
        super().__init__(EXIT_STATUS[signal.SIGTERM])


class _Last:
    """The last signal that raised at once. Kept here, since libraries may wrap the exception in one of their own."""

    signal: int | None = None


def stop_now(number: int, frame: FrameType | None = None) -> NoReturn:
    """A signal handler that raises at once, as Python's own handler does for Ctrl-C."""
    _Last.signal = number
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def stopped_by() -> int | None:
    """The signal that ``stop_now`` received, even where a library has replaced the exception since."""
    return _Last.signal


class Interrupt:
    """Inside the ``with`` block the first signal is only noted in ``signal``; a second Ctrl-C raises at once."""

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
        """Inside this block a signal raises at once: there is nothing to save yet."""
        self._noting = False
        try:
            yield
            if _Last.signal is not None:  # a finaliser or a bare except swallowed the exception
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
