"""The command ends the process without freeing memory, but waits for threads, runs handlers and flushes buffers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, command_environment

ENDING = """
import atexit, ctypes, sys, threading, time
from mltricks.process.leave import is_outermost, run_and_leave

def late():
    time.sleep(0.3)
    print("thread")

def command():
    atexit.register(print, "at exit")
    threading.Thread(target=late).start()
    ctypes.CDLL(None).printf(b"from C\\n")
    print("command", end=" ")
    sys.exit(%s)

def run():
    assert is_outermost(sys._getframe())
    run_and_leave(command, [], sys._getframe())

run()
"""


def python(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    environment = command_environment(PYTHONUNBUFFERED="")
    return subprocess.run([sys.executable, *arguments], text=True, env=environment, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize(("code", "status"), [("75", 75), ("None", 0), ("'a message'", 1)])
def test_threads_end_handlers_run_and_buffers_are_flushed(code: str, status: int) -> None:
    done = python("-c", ENDING % code, capture_output=True)
    assert done.returncode == status
    assert sorted(done.stdout.splitlines()) == ["at exit", "command thread", "from C"]
    assert done.stderr.strip() == ("a message" if status == 1 else "")


def test_an_error_prints_its_traceback() -> None:
    code = "from mltricks.process.leave import run_and_leave; run_and_leave(lambda: 1 / 0, [], None)"
    done = python("-c", code, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_output_that_cannot_be_written_has_pythons_exit_status() -> None:
    with open("/dev/full", "w") as full:
        done = python("-c", ENDING % "0", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 120


def test_a_signal_while_threads_end_does_not_change_the_status(tmp_path: Path) -> None:
    """The command has ended and has its exit status; the process only waits for a thread of a library."""
    code = ENDING.replace('print("thread")', "os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.3)")
    code = code.replace("import atexit,", "import os, signal, atexit,") % "0"
    code = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n" + code
    assert python("-c", code, capture_output=True).returncode == 0


@pytest.mark.parametrize("closed", ["1", "2"])
def test_streams_closed_before_the_end_are_not_an_error(closed: str, tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m mltricks {" ".join(TINY)} epochs=1 {closed}>&-'
    done = subprocess.run(["sh", "-c", command], env=command_environment(), capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_profiler_writes_its_file(tmp_path: Path) -> None:
    done = python("-m", "cProfile", "-o", str(tmp_path / "profile"), "-m", "mltricks", "job=list", capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "profile").stat().st_size > 1000


def test_a_program_that_runs_the_command_continues_after_it() -> None:
    code = (
        "import runpy, sys\nsys.argv = ['mltricks', 'job=list']\n"
        "try:\n    runpy.run_module('mltricks', run_name='__main__')\nexcept SystemExit:\n    print('the host goes on')"
    )
    done = python("-c", code, capture_output=True)
    assert done.stdout.splitlines()[-1] == "the host goes on", done.stderr


def test_a_file_that_a_users_module_left_open_is_written(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from mltricks.models.mlp import MLP\nLOG = open('log.txt', 'w')\n\n\n"
        "class Net(MLP):\n    def forward(self, x):\n        LOG.write('.')\n        return super().forward(x)\n"
    )
    model = ["model=custom", "model._target_=mine.Net", "+model.width=4", "+model.depth=1", "allow_modules=[mine]"]
    options = [o for o in TINY if not o.startswith("model")]
    done = python(
        "-m", "mltricks", *options, *model, "epochs=1", "hydra.run.dir=run", cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "log.txt").read_text()) > 10
