"""The end of the process, without the half second in which Python frees what torch and Hydra have made.

Source: mypy ends in the same way (``mypy.util.hard_exit``). Whatever is registered to happen at the end happens.
Deviation: where code of the user's took part, or somebody waits for the command inside this process, it ends in
Python's own way: a file that was left open is written then, and a profiler has its turn.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

OWN_CODE = ("allow_modules", "--config-dir", "-cd", "--config-path", "-cp", "searchpath")
"""What a command has in it that may bring code of the user's."""


def run_and_leave(command: Callable[[], None], arguments: Sequence[str], caller: FrameType | None) -> NoReturn:
    """Call a command and end the process with its exit status.

    Args:
        command: returns for status 0; an exit with a message, or an error, ends the process in Python's own way.
        arguments: of the process.
        caller: the frame that wants the process to end.
    """
    try:
        command()
        status = 0
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        status = end.code or 0
    own_code = any(word in argument for argument in arguments for word in OWN_CODE)
    if not own_code and is_outermost(caller) and not is_watched():
        with suppress(BaseException):  # a signal while threads end: as in Python, the command has its status already
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if flushed():
            os._exit(status)
    sys.exit(status)


def is_outermost(caller: FrameType | None) -> bool:
    """Whether nobody waits for the caller but the module that is the program, and Python's ``-m``."""
    program = caller.f_back if caller is not None else None
    if program is None or program.f_code.co_name != "<module>":
        return False
    above = program.f_back
    while above is not None:
        if above.f_globals.get("__name__") != "runpy":
            return False
        above = above.f_back
    return True


def is_watched() -> bool:
    """Whether a debugger, a profiler or ``python -i`` has something to do after the command."""
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring else []
    return bool(sys.gettrace() or sys.getprofile() or sys.flags.inspect or any(tools))


def flushed() -> bool:
    """Whether everything that was written has left the process, that of C libraries too."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed before the process began
                stream.flush()
    except (OSError, ValueError):  # nobody reads it any more: Python has a status of its own for that
        return False
    if os.name == "posix":
        import ctypes

        ctypes.CDLL(None).fflush(None)
    return True
