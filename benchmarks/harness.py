"""Interleaved timing: each round times every program once, so that a change of the machine's speed affects all."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import torch

PEERS = Path(__file__).parent / "peers"
"""The programs to compare with, and modules that they and ours import."""


def process(*arguments: str) -> Callable[[], None]:
    """A program for ``race``: a Python process that runs to its end, on one thread, in a new empty folder each time."""
    path = os.pathsep.join(filter(None, [str(PEERS), os.environ.get("PYTHONPATH")]))
    environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}")

    return run


def race(
    contestants: Mapping[str, Callable[[], object]], rounds: int = 7, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Measure the seconds of every program in every round, after a warm-up round that is not counted.

    With ``rounds=1`` there is only the warm-up round: it shows that the programs run, and its times mean nothing.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1 if rounds > 1 else 1):
        for name, run in contestants.items():
            start = clock()
            run()
            if number or rounds == 1:
                times[name].append(clock() - start)
    return times


def report(title: str, times: dict[str, list[float]], ours: list[str], unit: float = 1.0) -> None:
    """Print medians, and the ratios of mltricks' times to those of every other program, computed round by round."""
    print(f"\n## {title}\n")
    for name, seconds in times.items():
        print(f"{name:>28}: median {statistics.median(seconds) * unit:10.4g}")
    for name in ours:
        for peer in times:
            if peer not in ours:
                ratios = [a / b for a, b in zip(times[name], times[peer], strict=True)]
                spread = f"min {min(ratios):.3f}, max {max(ratios):.3f}, n={len(ratios)}"
                print(f"{name} / {peer}: median {statistics.median(ratios):.3f} ({spread})")


def environment(*packages: str) -> str:
    """One line of versions and hardware."""
    from importlib.metadata import version

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *packages))
    return f"{versions}; python {platform.python_version()}; {cpu}; {torch.get_num_threads()} thread(s)"


def origin() -> dict[str, str]:
    """Where and when a table was measured: commit, date, versions and hardware."""
    git = ["git", "-C", str(PEERS), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return {"commit": commit, "date": f"{datetime.now():%Y-%m-%d}", "environment": environment("torchvision")}
