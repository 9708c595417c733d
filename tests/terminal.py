"""Run the command on a pseudo terminal, and read what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

from conftest import command_environment


def on_terminal(arguments: Sequence[str], cwd: Path, columns: int, **variables: str) -> tuple[int, str]:
    """The exit status of ``python -m mltricks`` on a terminal of this width, and all that it wrote."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, "-m", "mltricks", *arguments]
    environment = command_environment(**{"TERM": "xterm-256color", **variables})
    environment.pop("COLUMNS", None)
    pieces = []
    with subprocess.Popen(command, cwd=cwd, env=environment, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        while True:
            try:
                pieces.append(os.read(master, 65536))
            except OSError:  # the other end is closed
                break
            if not pieces[-1]:
                break
    os.close(master)
    return process.returncode, b"".join(pieces).decode()


def shown_lines(text: str) -> list[str]:
    """Every line that was on the terminal at some time, without escape sequences."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))]
