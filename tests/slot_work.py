"""Work for the workers of test_slots.py, and jobs of test_other_launchers.py."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from mltricks.launch.job import Job


class Stubborn(Exception):
    """An error that can be pickled but not unpickled, because its constructor needs two arguments."""

    def __init__(self, key: str, value: int):
        super().__init__(f"{key} is {value}")


class Closed(Exception):
    """An error that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("holds a lambda")
        self.hook = lambda: None


def done(unit: Sequence[Job], act: Callable[[Job], Any]) -> list[JobReturn]:
    """The job returns of a unit, as the launcher makes them."""
    returns = []
    for job in unit:
        result = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
        try:
            result.return_value = act(job)
        except Exception as error:
            result.return_value, result.status = error, JobStatus.FAILED
        returns.append(result)
    return returns


def act(unit: Sequence[Job]) -> list[JobReturn]:
    """Run the action that each job's overrides name."""
    return done(unit, lambda job: ACTIONS[job.overrides[0]](*job.overrides[1:]))


def look() -> dict[str, Any]:
    """The environment that a worker sees."""
    import torch

    return {
        "pid": os.getpid(),
        "server_threads": len(os.listdir(f"/proc/{os.getppid()}/task")),
        "threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "cuda": torch.cuda.is_initialized(),
        "cores": sorted(os.sched_getaffinity(0)),
        "mark": os.environ.get("SLOT_MARK"),
        "cwd": os.getcwd(),
    }


def sleep(seconds: str) -> int:
    time.sleep(float(seconds))
    return os.getpid()


def die(number: str) -> None:
    os.kill(os.getpid(), int(number))


def crash() -> None:
    ctypes.string_at(0)


def fail(kind: str) -> None:
    raise {"stubborn": Stubborn("depth", 3), "closed": Closed(), "plain": ValueError("optim.lr=-1: type more")}[kind]


def exhaust() -> None:
    import torch

    torch.empty(1 << 46, dtype=torch.uint8)


def write(letter: str) -> None:
    """Write long lines in small pieces to both streams, and some bytes directly to the file descriptor."""
    for _ in range(20):
        for stream in (sys.stdout, sys.stderr):
            for _ in range(100):
                stream.write(letter)
                stream.flush()
            stream.write("\n")
    os.write(1, b"no newline " + letter.encode())


def note_gpus(cfg: Any, folder: Path, overrides: list[str], mode: str) -> None:
    """A ``job`` that writes to a file which GPUs it sees."""
    (folder / "gpus.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))


def die_once(cfg: Any, folder: Path, overrides: list[str], mode: str) -> None:
    """A ``job`` that kills its process the first time it runs."""
    mark = Path(os.environ["SLOT_MARK"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


ACTIONS: dict[str, Callable[..., Any]] = {
    "look": look,
    "sleep": sleep,
    "die": die,
    "crash": crash,
    "exit": lambda status: os._exit(int(status)),
    "fail": fail,
    "exhaust": exhaust,
    "write": write,
    "lambda": lambda: lambda: None,
}
