"""The process ends at once, and yet nothing that belongs to an end is left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import command_environment

ENDING = """
import atexit, ctypes, sys, threading, time
from mltricks.leave import run_and_leave

def late():
    time.sleep(0.3)
    print("thread")

def command():
    atexit.register(print, "at exit")
    threading.Thread(target=late).start()
    ctypes.CDLL(None).printf(b"from C\\n")
    print("command", end=" ")
    sys.exit(%s)

run_and_leave(command)
"""


def python(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    environment = command_environment(PYTHONUNBUFFERED="")
    return subprocess.run([sys.executable, *arguments], text=True, env=environment, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize(("code", "status"), [("75", 75), ("None", 0), ("'a message'", 1)])
def test_threads_handlers_and_buffers_come_to_their_end(code: str, status: int) -> None:
    done = python("-c", ENDING % code, capture_output=True)
    assert done.returncode == status
    assert sorted(done.stdout.splitlines()) == ["at exit", "command thread", "from C"]
    assert done.stderr.strip() == ("a message" if status == 1 else "")


def test_an_error_has_its_traceback() -> None:
    done = python("-c", "from mltricks.leave import run_and_leave; run_and_leave(lambda: 1 / 0)", capture_output=True)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_output_that_nobody_reads_has_pythons_own_status() -> None:
    with open("/dev/full", "w") as full:
        done = python("-c", ENDING % "0", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 120


def test_a_profiler_has_its_turn(tmp_path: Path) -> None:
    done = python("-m", "cProfile", "-o", str(tmp_path / "profile"), "-m", "mltricks", "job=list", capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "profile").stat().st_size > 1000
