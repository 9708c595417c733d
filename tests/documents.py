"""The blocks of a page of the documentation, and a process that runs them: each in a fork that need not import torch.

``python documents.py`` is that process. It reads a line of JSON for each block, forks, and answers with a line: the
exit status. In the fork a command runs as ``python -m`` runs it; a new process would import torch first, for two
seconds.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?:^ *`(my_\S+\.yaml)`:\n\n)?^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PLAIN = re.compile(r"python -m (mltricks[\w.]*)( .*)?")
SHELL = re.compile(r"[|&;<>$`(]")
"""Signs that a shell interprets; in quotes they are text."""


class Block(NamedTuple):
    """A block of code: its language, its text, and the file that it is to be saved as, if any."""

    language: str
    text: str
    file: str


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page in Markdown, in order; blocks within a list or a tab are indented."""
    found = []
    for name, indent, language, text in BLOCK.findall(page):
        text = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        first = text.partition("\n")[0]
        file = name or (first.removeprefix("# ") if language == "python" and first.startswith("# my_") else "")
        found.append(Block(language, text, file))
    return found


def commands_of(text: str) -> Iterator[str]:
    """The commands of a block, without comments; a line that ends with a backslash continues."""
    for line in text.replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            yield line


class Server:
    """Runs commands and Python code in forks of one process."""

    def __init__(self) -> None:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, cwd=ROOT / "tests"
        )

    def python(self, code: str, folder: Path) -> tuple[int, str]:
        """Run a program; returns its exit status and output."""
        return self.ask({"code": code}, folder)

    def command(self, line: str, folder: Path) -> tuple[int, str]:
        """Run a command line; one that needs a shell gets a shell."""
        plain = PLAIN.fullmatch(line)
        if plain and not SHELL.search(re.sub(r"'[^']*'|\"[^\"$`]*\"", "", line)):
            return self.ask({"module": plain[1], "arguments": shlex.split(plain[2] or "")}, folder)
        return self.ask({"shell": line}, folder)

    def ask(self, request: dict[str, Any], folder: Path) -> tuple[int, str]:
        output = folder.with_name(f"{folder.name}.out")
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({**request, "folder": str(folder), "output": str(output)}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()), output.read_text()

    def close(self) -> None:
        self.process.communicate()


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

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            work(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def work(request: dict[str, Any]) -> None:
    """Run one request in this process, and end it."""
    file = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["folder"])
    os.environ["PYTHONPATH"] = f"{request['folder']}{os.pathsep}{ROOT}"
    sys.path[0] = request["folder"]
    status = 1
    try:
        run(request)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


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
