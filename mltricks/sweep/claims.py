"""File locks: at most one process runs a job, and processes that share a sweep's folder take over a dead one's jobs.

A claim is a file ``<job>.<k>``, created atomically, so that only one process succeeds. After its owner has died, the
next claim is ``<job>.<k+1>``, and again only one process can create it.
"""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """The process that holds a claim.

    Attributes:
        pid: its process id.
        started: its start time, in the system's unit; the system reuses a pid, but not this pair.
        host: name of the machine it runs on.
    """

    pid: int
    started: str
    host: str

    def is_alive(self) -> bool:
        """Whether the process still runs. A process on another machine counts as alive: it cannot be checked."""
        return self.host != socket.gethostname() or (self.started != "" and start_of(self.pid) == self.started)


def myself() -> Owner:
    """This process."""
    return Owner(os.getpid(), start_of(os.getpid()), socket.gethostname())


def start_of(pid: int) -> str:
    """The start time of a process; empty if no process has this pid."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "unknown"  # without /proc, a process that reuses the pid passes for its former owner


@dataclass
class Claims:
    """The claims on the jobs of a sweep.

    Args:
        folder: folder of the sweep.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.place, self.me = self.folder / ".claims", myself()

    def take(self, num: int) -> bool:
        """Claim a job; return whether this process holds it now."""
        latest, owner = self.latest(num)
        if owner is not None and owner.is_alive():
            return owner == self.me
        self.place.mkdir(parents=True, exist_ok=True)  # made late, so that a refused command writes nothing
        # write a private file, then link it under the claim's name: link fails if the name exists, and no other
        # process ever reads a half-written claim
        mine = self.place / f".{self.me.host}.{self.me.pid}"
        mine.write_text(f"{self.me.pid} {self.me.started} {self.me.host}")
        try:
            os.link(mine, self.place / f"{num}.{latest + 1}")
        except FileExistsError:
            return False
        finally:
            mine.unlink()
        return True

    def latest(self, num: int) -> tuple[int, Owner | None]:
        """The number of the last claim on a job, or -1 if there is none, and its owner."""
        latest = -1
        while (self.place / f"{num}.{latest + 1}").exists():
            latest += 1
        if latest < 0:
            return latest, None
        with suppress(OSError, ValueError):
            pid, started, host = (self.place / f"{num}.{latest}").read_text().split(" ")
            return latest, Owner(int(pid), started, host)
        return latest, Owner(0, "", socket.gethostname())

    def give_back(self) -> None:
        """Remove this process's own claims after its command was refused."""
        for path in self.place.glob("[0-9]*"):
            if self.latest(int(path.name.partition(".")[0]))[1] == self.me:
                path.unlink()
        with suppress(OSError):
            self.place.rmdir()  # fails if other processes have claims

    def remove(self) -> None:
        """Remove all claims of a finished sweep."""
        shutil.rmtree(self.place, ignore_errors=True)
