"""The end of the process, without the half second in which Python frees what torch and Hydra have made.

Source: mypy ends in the same way (``mypy.util.hard_exit``). Whatever is registered to happen at the end happens.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn


def run_and_leave(command: Callable[[], None]) -> NoReturn:
    """Call a command and end the process with its exit status.

    Args:
        command: returns for status 0; an exit with a message, or an error, ends the process in Python's own way.
    """
    try:
        command()
        status = 0
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        status = end.code or 0
    if not is_watched():
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does
        atexit._run_exitfuncs()
        if flushed():
            os._exit(status)
    sys.exit(status)


def is_watched() -> bool:
    """Whether a debugger, a profiler or ``python -i`` has something to do after the command."""
    return bool(sys.gettrace() or sys.getprofile() or sys.flags.inspect)


def flushed() -> bool:
    """Whether everything that was written has left the process, that of C libraries too."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody reads it any more: Python has a status of its own for that
        return False
    if os.name == "posix":
        import ctypes

        ctypes.CDLL(None).fflush(None)
    return True
