"""What a sweep's folder says of it: ``sweep.json``, by which the same command finds it again."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from mltricks.atomic import write_atomically
from mltricks.summary import Summary, json_safe

NAME = "sweep.json"


def command() -> list[str]:
    """The arguments of this process, with short forms written out."""
    return sys.argv[1:]


class Record:
    """The content of ``sweep.json``.

    Args:
        folder: of the sweep.
        sweeper: its name.
        swept: keys that have several values.
    """

    def __init__(self, folder: Path, sweeper: str, swept: list[str]):
        self.path, self.clock = folder / NAME, time.perf_counter()
        known = read(self.path)
        self.before = float(known.get("seconds") or 0.0)
        self.content = {
            "command": command(),
            "sweeper": sweeper,
            "status": "running",
            "started": known.get("started") or datetime.now().isoformat(timespec="seconds"),
            "seconds": self.before,
            "objective": known.get("objective"),
            "swept": swept,
        }
        self.write()

    def end(self, finished: bool, summaries: Iterable[Summary]) -> None:
        """Note how long the sweep took, and whether it is finished."""
        objective = next((s.objective for s in summaries if s.objective.get("direction")), None)
        if objective is not None:
            self.content["objective"] = {key: objective[key] for key in ("name", "direction")}
        self.content["seconds"] = round(self.before + time.perf_counter() - self.clock, 3)
        self.content["status"] = "finished" if finished else "running"
        self.write()

    def write(self) -> None:
        text = json.dumps(json_safe(self.content), indent=2) + "\n"
        write_atomically(self.path, lambda partial: partial.write_text(text))


def read(path: Path) -> dict[str, Any]:
    """The content of a ``sweep.json``; empty where there is none that can be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def unfinished(pattern: str) -> Path | None:
    """The folder of the newest sweep of exactly this command that is not finished.

    Args:
        pattern: ``hydra.sweep.dir`` as configured, with interpolations, which stand for any text.
    """
    found = []
    for path in Path().glob(f"{re.sub(r'[$][{][^}]*[}]', '*', pattern)}/{NAME}"):
        content = read(path)
        if content.get("status") == "running" and content.get("command") == command():
            found.append((str(content.get("started")), path.parent))
    return max(found)[1] if found else None
