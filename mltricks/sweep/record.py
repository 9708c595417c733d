"""The record of a sweep, ``sweep.json``: its command and status, by which the same command finds a stopped sweep."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from mltricks.process.atomic import write_atomically
from mltricks.summary import Summary, json_safe

NAME, MULTIRUN = "sweep.json", "multirun.yaml"
RUNNING, ENDED, FINISHED = "running", "ended", "finished"
"""Status of a sweep. ``ended``: all jobs are done, but the sweep's table and page are not yet written."""
FREE = ("hydra.sweeper.force=",)
"""Arguments that may change when a command resumes a sweep."""


def command() -> list[str]:
    """The arguments of this process, with short forms expanded."""
    return sys.argv[1:]


def fingerprint(words: Iterable[str]) -> list[str]:
    """The arguments that two commands must share to resume each other's sweep.

    >>> fingerprint(["-m", "hydra/sweeper=recipe", "hydra.sweeper.force=true"])
    ['-m', 'hydra/sweeper=recipe']
    """
    return [word for word in words if not word.startswith(FREE)]


class Record:
    """The content of ``sweep.json``; nothing is written before ``begin``.

    Args:
        folder: folder of the sweep.
        sweeper: name of the sweeper.
        swept: keys that have several values.

    Attributes:
        former: the content of the record's files before ``begin``, by name.
        names: the names in the folder before ``begin``; ``None`` until then.
    """

    def __init__(self, folder: Path, sweeper: str, swept: list[str]):
        self.path, self.clock = folder / NAME, time.perf_counter()
        self.former: dict[str, bytes] = {}
        self.names: set[str] | None = None
        known = read(self.path)
        self.before = float(known.get("seconds") or 0.0)
        self.content = {
            "command": command(),
            "sweeper": sweeper,
            "status": RUNNING,
            "started": known.get("started") or datetime.now().isoformat(timespec="seconds"),
            "seconds": self.before,
            "objective": known.get("objective"),
            "swept": swept,
        }

    def begin(self, config: Any) -> None:
        """Write the record, once, after the command has passed its checks.

        Args:
            config: configuration of the sweep.
        """
        if self.names is not None:
            return
        from omegaconf import OmegaConf

        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        self.names = {path.name for path in folder.iterdir()}
        self.former = {name: (folder / name).read_bytes() for name in self.names & {NAME, MULTIRUN}}
        OmegaConf.save(config, folder / MULTIRUN)
        self.write()

    def take_back(self) -> bool:
        """Restore the folder's former content if no job has started in it; return whether that was so."""
        folder = self.path.parent
        own = {NAME, MULTIRUN, ".claims"}
        if {path.name for path in folder.iterdir()} - own != (self.names or set()) - own:
            return False
        for name in {NAME, MULTIRUN} if self.names is not None else ():
            (folder / name).unlink(missing_ok=True)
            if name in self.former:
                (folder / name).write_bytes(self.former[name])
        return True

    def end(self, status: str, summaries: Iterable[Summary]) -> None:
        """Record the objective, the duration and the status."""
        objective = next((s.objective for s in summaries if s.objective.get("direction")), None)
        if objective is not None:
            self.content["objective"] = {key: objective[key] for key in ("name", "direction")}
        self.content["seconds"] = round(self.before + time.perf_counter() - self.clock, 3)
        self.content["status"] = status
        self.write()

    def write(self) -> None:
        text = json.dumps(json_safe(self.content), indent=2) + "\n"
        write_atomically(self.path, lambda partial: partial.write_text(text))


def close(folder: Path) -> None:
    """Mark an ended sweep as finished: its table and page are written."""
    content = read(folder / NAME)
    if content.get("status") == ENDED:
        text = json.dumps(content | {"status": FINISHED}, indent=2) + "\n"
        write_atomically(folder / NAME, lambda partial: partial.write_text(text))


def read(path: Path) -> dict[str, Any]:
    """The content of a ``sweep.json``; empty if it is missing or unreadable."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def unfinished(pattern: str) -> Path | None:
    """Find the folder of the newest unfinished sweep of exactly this command.

    Args:
        pattern: ``hydra.sweep.dir`` as configured; an interpolation in it matches any text.
    """
    found, mine = [], fingerprint(command())
    for path in Path().glob(f"{re.sub(r'[$][{][^}]*[}]', '*', pattern)}/{NAME}"):
        content = read(path)
        if content.get("status") in (RUNNING, ENDED) and fingerprint(content.get("command") or []) == mine:
            found.append((str(content.get("started")), path.parent))
    return max(found)[1] if found else None
