"""End the process without Python's clean-up, which takes half a second to free the objects of torch and Hydra.

Source: mypy ends in the same way (``mypy.util.hard_exit``). Exit handlers still run and output is flushed.
Deviation: where the user's own code took part, or the command runs inside another program, the process ends in
Python's own way, so that open files are written and a profiler or debugger can finish.
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
"""Words in a command that can bring in the user's own code."""


def run_and_leave(command: Callable[[], None], arguments: Sequence[str], caller: FrameType | None) -> NoReturn:
    """Call a command and end the process with its exit status.

    Args:
        command: returning means status 0. An exit with a message, or an error, ends the process in Python's own way.
        arguments: of the command line.
        caller: the frame that calls this function.
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
        with suppress(BaseException):  # a signal while threads end changes nothing: the exit status is known
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if flushed():
            os._exit(status)
    sys.exit(status)


def is_outermost(caller: FrameType | None) -> bool:
    """Whether only the main module (and ``runpy``, for ``python -m``) is above the caller on the call stack."""
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
    """Whether a debugger, a profiler or ``python -i`` still has work after the command."""
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring else []
    return bool(sys.gettrace() or sys.getprofile() or sys.flags.inspect or any(tools))


def flushed() -> bool:
    """Flush standard output, standard error and the buffers of C libraries; whether that succeeded."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # the stream was closed before the process began
                stream.flush()
    except (OSError, ValueError):  # the reader is gone: Python exits with a status of its own then
        return False
    if os.name == "posix":
        import ctypes

        ctypes.CDLL(None).fflush(None)
    return True
