"""Slots: each gives one worker a GPU and a number of threads, so that workers do not compete for cores."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

START_S = 2.0
"""Seconds until the first worker computes: the server of workers imports torch once."""
FORK_S = 0.03
"""Seconds to fork one worker from that server."""


@dataclass(frozen=True)
class Slot:
    """The resources of one worker at a time.

    Attributes:
        num: its number, from 0.
        threads: threads that torch and other numeric libraries may use, >= 1.
        gpu: ``CUDA_VISIBLE_DEVICES`` of its workers; ``None``: same as the sweep's own process.
        cores: cores to which its workers are bound; empty: all.
        fresh: whether every unit gets a new worker.
    """

    num: int
    threads: int
    gpu: str | None = None
    cores: tuple[int, ...] = ()
    fresh: bool = False


def choose_workers(
    setting: str | int, units: int, device: str, seconds: float | None = None, pin: bool = False
) -> list[Slot]:
    """Choose the slots of a sweep. An empty list means: run the units one by one in the sweep's own process.

    Args:
        setting: ``hydra.launcher.workers``: ``auto``, or a number >= 1. 1 means the sweep's own process.
        units: number of units to run, >= 0.
        device: ``device=`` of the jobs: ``auto``, ``cpu``, ``cuda``, ``mps``, ``cuda:1``.
        seconds: expected time of a unit in the sweep's own process; ``None`` (unknown) counts as long.
        pin: bind each slot to its own cores, if the system supports that.

    Raises:
        ValueError: ``workers`` is neither ``auto`` nor a number >= 1, or several workers are asked for on a GPU that
            ``device`` names by its number.
    """
    if setting != "auto" and (isinstance(setting, bool) or not isinstance(setting, int) or setting < 1):
        raise ValueError(f"workers={setting}: type auto or a number of worker processes, 1 or more.")
    gpus = visible_gpus() if device in ("auto", "cuda") else []
    if setting == "auto":
        num = automatic(units, device, len(gpus), seconds)
    else:
        num = int(setting)
        if num > 1 and ":" in device:
            raise ValueError(
                f"device={device} puts all {num} workers on one GPU. Type device=cuda, which deals the GPUs of "
                "CUDA_VISIBLE_DEVICES out to the workers, or workers=1."
            )
    num = min(num, units)
    return deal(num, gpus, pin) if num > 1 else []


def automatic(units: int, device: str, gpus: int, seconds: float | None = None) -> int:
    """The number of workers under ``workers=auto``: one per GPU, or one per core if the units are long enough.

    Two workers with one core each are faster than one process with two threads, because a small model leaves the
    second thread idle. But each worker takes time to start.

    >>> automatic(8, "cuda", 4), automatic(8, "mps", 0), automatic(8, "cpu", 0, seconds=0.01)
    (4, 1, 1)
    """
    if gpus or device not in ("auto", "cpu"):
        return max(gpus, 1)
    num = min(num_cores(), units)
    if num < 2 or seconds is None:
        return max(num, 1)
    alone = units * seconds
    shared = START_S + math.ceil(units / num) * (seconds + FORK_S)
    return num if shared < alone else 1


def deal(num: int, gpus: list[str], pin: bool = False) -> list[Slot]:
    """Make ``num`` slots: assign GPUs round-robin, and split the cores equally."""
    cores = usable_cores()
    share = max(num_cores() // num, 1)
    most = os.environ.get("OMP_NUM_THREADS", "")
    threads = min(share, int(most)) if most.isdecimal() and int(most) > 0 else share
    own = pin and len(cores) >= num * share
    return [
        Slot(
            i,
            threads,
            gpus[i % len(gpus)] if gpus else None,
            tuple(cores[i * share : (i + 1) * share]) if own else (),
            fresh=bool(gpus),
        )
        for i in range(num)
    ]


def visible_gpus() -> list[str]:
    """The GPUs of this process, as ``CUDA_VISIBLE_DEVICES`` names them: numbers, UUIDs or MIG instances.

    The count comes from the driver's library, so CUDA is not initialised in this process.
    """
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named is not None else [str(i) for i in range(count)]
    return [name.strip() for name in names][:count]


def usable_cores() -> list[int]:
    """The cores that this process may run on, by number."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def num_cores() -> int:
    """The number of usable cores: the size of the affinity mask, or a container's CPU quota if that is lower."""
    quota = cgroup_quota(Path("/sys/fs/cgroup"))
    return max(1, min(len(usable_cores()), math.ceil(quota) if quota is not None else len(usable_cores())))


def cgroup_quota(root: Path) -> float | None:
    """The CPU quota of a container in cores; ``None`` if there is no limit.

    Args:
        root: mount point of the control groups, version 2, or version 1 as seen inside a container.
    """
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        return float(quota) / float(period) if quota != "max" and float(quota) > 0 else None
    except (OSError, ValueError):
        return None
