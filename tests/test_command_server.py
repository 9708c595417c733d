"""Commands in forks of the server end, print and see their environment as in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_server import CommandServer
from conftest import command_environment

Run = Callable[..., tuple[int | None, str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[CommandServer]:
    server = CommandServer(command_environment())
    yield server
    server.close()


@pytest.fixture
def run(server: CommandServer, tmp_path: Path) -> Run:
    def run(code: str, timeout: float | None = 60, **changes: str) -> tuple[int | None, str, str]:
        out, err = tmp_path / "out", tmp_path / "err"
        environment = {**server.environment, **changes}
        status = server.run({"code": code}, tmp_path, (out, err), environment, timeout)
        return status, out.read_text(), err.read_text()

    return run


@pytest.mark.parametrize(
    ("code", "status", "err"),
    [
        ("pass", 0, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('words')", 1, "words\n"),
        ("raise SystemExit(['a'])", 1, "['a']\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15, ""),
    ],
)
def test_a_status_is_that_of_a_process(run: Run, code: str, status: int, err: str) -> None:
    assert run(code) == (status, "", err)


def test_an_error_leaves_its_traceback(run: Run) -> None:
    status, _, err = run("1 / 0")
    assert (status, err.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")


def test_all_output_is_kept(run: Run) -> None:
    code = """
import atexit, os, subprocess, sys, threading, time
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
print("x" * 1_000_000, flush=True)
subprocess.run(["sh", "-c", "echo child; echo child >&2"])
print(os.environ["COLOUR"], os.getcwd(), repr(sys.stdin.read()))
"""
    status, out, err = run(code, COLOUR="red")
    *_, child, own, thread, last = out.splitlines()
    assert (status, len(out) > 1_000_000, err) == (0, True, "child\n")
    assert (child, thread, last) == ("child", "thread", "at exit")
    assert own.startswith("red /")
    assert own.endswith(" ''")


def test_the_next_request_follows_one_that_was_killed(run: Run) -> None:
    assert run("import time; print(1, flush=True); time.sleep(60)", timeout=0.3) == (None, "1\n", "")
    assert run("print(2)") == (0, "2\n", "")


def test_an_environment_that_is_read_at_the_start_is_not_served(server: CommandServer) -> None:
    assert server.serves({**server.environment, "COLOUR": "red"})
    assert not server.serves({**server.environment, "PYTHONHASHSEED": "1"})
    assert not server.serves({k: v for k, v in server.environment.items() if k != "OMP_NUM_THREADS"})


def test_a_server_that_was_killed_says_so(tmp_path: Path) -> None:
    server = CommandServer(command_environment())
    killing = {"code": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"}
    with pytest.raises(RuntimeError, match="has ended, with exit status -9"):
        server.run(killing, tmp_path, (tmp_path / "out", tmp_path / "err"))
    server.close()
