"""A process that has imported torch and runs commands in forks of itself: a new one would import it first, for 2 s.

``python command_server.py`` is that process. It reads a line of JSON for each request, forks, and answers with a line:
the exit status, or ``null`` after the time limit. In the fork a command runs as ``python -m`` runs it: its folder, its
environment, its own standard output and error, and an end with exit handlers.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
AT_START = ("PYTHON", "LD_", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "CUDA_", "TORCH", "PYTORCH_", "MPL")
"""Beginnings of variables that Python and the libraries read when they start. A fork finds them as they were."""


class CommandServer:
    """Runs modules, Python code and lines of a shell in forks of one process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, __file__], env=self.environment, cwd=ROOT / "tests", **pipes)

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a fork can have this environment: nothing differs that is read when a process starts."""
        names = environment.keys() | self.environment.keys()
        differing = [name for name in names if environment.get(name) != self.environment.get(name)]
        return not any(name.startswith(AT_START) for name in differing)

    def run(
        self,
        request: dict[str, Any],
        folder: Path,
        output: tuple[Path, Path],
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> int | None:
        """Run a request; its standard output and error go to the two files.

        Args:
            request: ``{"module": NAME, "arguments": [...]}``, ``{"code": TEXT}`` or ``{"shell": LINE}``.
            folder: in which it runs.
            output: may be the same file twice.
            environment: its variables; those of this server unless given.
            timeout: in seconds, after which it is killed.

        Returns:
            Its exit status, negative for a signal, or ``None`` after the time limit.

        Raises:
            RuntimeError: the server itself has ended.
        """
        environment = self.environment if environment is None else dict(environment)
        places = {"folder": str(folder), "out": str(output[0]), "err": str(output[1])}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = json.dumps({**request, **places, "environment": environment, "timeout": timeout})
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the server of commands has ended, with exit status {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """Let the server end. It must be told: processes forked by tests may hold its standard input open."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process:  # closes the pipes and waits; it may have been killed
            self.process.stdin.write("null\n")


def serve() -> None:
    """Answer requests until there are no more. What is imported here, no fork imports; nothing is computed here."""
    import matplotlib.backends.backend_agg  # noqa: F401
    import optuna  # noqa: F401
    import ruamel.yaml  # noqa: F401
    from hydra.core.plugins import Plugins

    import mltricks.observers.report
    import mltricks.observers.run_page.write
    import mltricks.report.callback
    import mltricks.train  # noqa: F401

    Plugins.instance()  # searches all packages for plugins

    while (request := json.loads(sys.stdin.readline() or "null")) is not None:
        pid = os.fork()
        if pid == 0:
            work(request)
        print(json.dumps(status_of(pid, request["timeout"])), flush=True)


def status_of(pid: int, timeout: float | None) -> int | None:
    """The exit status of a fork, or ``None`` if it did not end within the time limit and was killed."""
    handle = os.pidfd_open(pid)
    in_time = bool(select.select([handle], [], [], timeout)[0])
    os.close(handle)
    if not in_time:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if in_time else None


def work(request: dict[str, Any]) -> None:
    """Run one request in this process, and end it."""
    redirect(request["out"], request["err"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]
    status = 1
    try:
        run(request)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def redirect(out: str, err: str) -> None:
    """Make two files the standard output and error, and nothing the standard input."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), 1)
    os.dup2(1 if err == out else os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)


def run(request: dict[str, Any]) -> None:
    if "code" in request:
        exec(compile(request["code"], "<block>", "exec"), {"__name__": "__main__"})
    elif "shell" in request:
        sys.exit(subprocess.run(request["shell"], shell=True).returncode)
    else:
        run_module(request["module"], request["arguments"])


def run_module(name: str, arguments: Sequence[str]) -> None:
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
