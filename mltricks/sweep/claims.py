"""Who is at which job: processes that share a sweep's folder run no job twice, and take over what a dead one left.

A claim is a file ``<job>.<k>``, made so that only one process can make it. Where its owner has died, the claim
``<job>.<k+1>`` is the next to be had, and again only one process gets it.
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
    """A process.

    Attributes:
        pid: its number.
        started: when it started, in the system's own unit; numbers of processes are used again, this pair is not.
        host: where it runs.
    """

    pid: int
    started: str
    host: str

    def is_alive(self) -> bool:
        """Whether the process is there; of another machine's it is believed."""
        return self.host != socket.gethostname() or (self.started != "" and start_of(self.pid) == self.started)


def myself() -> Owner:
    """This process."""
    return Owner(os.getpid(), start_of(os.getpid()), socket.gethostname())


def start_of(pid: int) -> str:
    """When a process started; empty where there is none of that number."""
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
    return "unknown"  # without /proc a number that is used again passes for the process that had it


@dataclass
class Claims:
    """The claims on the jobs of a sweep.

    Args:
        folder: of the sweep.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.place, self.me = self.folder / ".claims", myself()

    def take(self, num: int) -> bool:
        """Claim a job; whether it is this process's now."""
        latest, owner = self.latest(num)
        if owner is not None and owner.is_alive():
            return owner == self.me
        self.place.mkdir(parents=True, exist_ok=True)  # not before: a command that is refused writes nothing
        mine = (
            self.place / f".{self.me.host}.{self.me.pid}"
        )  # written first and linked then, so that nobody reads half of it
        mine.write_text(f"{self.me.pid} {self.me.started} {self.me.host}")
        try:
            os.link(mine, self.place / f"{num}.{latest + 1}")
        except FileExistsError:
            return False
        finally:
            mine.unlink()
        return True

    def latest(self, num: int) -> tuple[int, Owner | None]:
        """The number of the last claim on a job, -1 where there is none, and whose it is."""
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
        """Remove this process's own claims, of a command that was refused."""
        for path in self.place.glob("[0-9]*"):
            if self.latest(int(path.name.partition(".")[0]))[1] == self.me:
                path.unlink()
        with suppress(OSError):
            self.place.rmdir()  # where no other process has claims

    def remove(self) -> None:
        """Remove the claims of a sweep that is over."""
        shutil.rmtree(self.place, ignore_errors=True)
